"""OpenAI's API of videos: jobs that are asked for, looked after, and fetched when they are done.

`fields` is what is asked and answered, `store` what is kept on the disk, `work` has the jobs done, `door` are the
endpoints.
"""
