"""Of a video, evenly spaced frames are taken, upright and within the limits; no more is decoded than they need."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media import files
from tutti.errors import InvalidMedia
from tutti.media.sampling import Budget, choose
from tutti.media.video import read_soundtrack, read_video

VIDEO = files.video(30, 10, g="6")
BUDGET = Budget(2.0, 768, 3600.0, 1920 * 1080, 1 << 27)


def every_frame(data: bytes) -> list[int]:
    return files.shown(read_video(data, fps=1000).frames)


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "libx264"),
        ("mov", "libx264"),
        ("matroska", "libx264"),
        ("mpegts", "libx264"),
        ("webm", "libvpx-vp9"),
        ("avi", "mpeg4"),
        ("mpeg", "mpeg2video"),
        ("h264", "libx264"),
    ],
)
def test_every_frame_of_common_formats(container: str, codec: str) -> None:
    rate = 25 if codec == "mpeg2video" else 10
    assert every_frame(files.video(30, rate, container=container, codec=codec)) == list(range(30))


def test_two_frames_a_second_of_three_seconds() -> None:
    video = read_video(VIDEO)
    assert (video.rate, video.seconds) == (2.0, 3.0)
    assert video.frames.shape == (6, 48, 64, 3) and video.frames.dtype == np.uint8
    assert files.shown(video.frames) == [round(x) for x in np.linspace(0, 29, 6)]


@given(st.integers(1, 30))
@settings(max_examples=12)
def test_whatever_the_number_the_frames_are_evenly_spaced(count: int) -> None:
    video = read_video(VIDEO, fps=count / 3)
    taken = max(count, 2)
    assert files.shown(video.frames) == list(np.linspace(0, 29, taken).round().astype(int))
    assert video.rate == pytest.approx(taken / 3)


def test_open_groups_of_frames_are_decoded_from_where_they_depend_on() -> None:
    data = files.video(30, 10, g="6", bf="3", **{"x264-params": "open-gop=1:scenecut=0"})
    for fps in (1, 2, 5, 10):
        video = read_video(data, fps=fps)
        assert files.shown(video.frames) == [round(x) for x in np.linspace(0, 29, fps * 3)]


def test_frames_are_taken_evenly_in_time_also_where_they_come_unevenly() -> None:
    # Twenty frames in the first second, then one after 2 and one after 3 seconds.
    times = [*range(20), 40, 60]
    data = files.video(22, 20, times=times, container="matroska", bf="0")
    video = read_video(data, fps=3)
    assert video.frames.shape[0] == round(video.seconds * 3)
    assert files.shown(video.frames)[-1] == 21 and files.shown(video.frames)[0] == 0
    assert files.shown(video.frames).count(20) >= 2


def test_at_most_so_many_frames() -> None:
    assert files.shown(read_video(VIDEO, fps=10, most_frames=4).frames) == [0, 10, 19, 29]


def test_a_video_of_one_frame_has_one() -> None:
    video = read_video(files.video(1))
    assert len(video.frames) == 1 and video.seconds > 0


def test_only_a_few_frames_of_a_long_group_are_made() -> None:
    """Two frames of three hundred: what lies between key frames that are not needed is never decoded."""
    data = files.video(300, 30, g="30")
    assert len(read_video(data, fps=0.1).frames) == 2


def test_a_turned_video_is_upright() -> None:
    plain, turned = read_video(VIDEO).frames, read_video(files.turned(VIDEO)).frames
    assert turned.shape == (6, 64, 48, 3)
    assert turned[0, :8, -8:].mean() > 240  # the white corner went from top left to top right
    assert np.array_equal(turned, np.rot90(plain, -1, (1, 2)))


def test_large_frames_are_made_smaller_in_their_shape() -> None:
    assert read_video(VIDEO, most_pixels=12 * 16).frames.shape == (6, 12, 16, 3)
    assert read_video(VIDEO, total_pixels=6 * 12 * 16).frames.shape == (6, 12, 16, 3)
    small = read_video(VIDEO, most_pixels=24 * 32)
    assert files.shown(small.frames) == files.shown(read_video(VIDEO).frames)


def test_too_long_a_video_names_both_numbers() -> None:
    with pytest.raises(InvalidMedia, match=r"3\.0 seconds long; at most 2\.5"):
        read_video(VIDEO, most_seconds=2.5)


def test_too_large_a_frame_names_both_numbers() -> None:
    with pytest.raises(InvalidMedia, match=r"9000 x 9000, 81,000,000 pixels.*at most 35,651,584"):
        BUDGET.check_size(9000, 9000)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG"])
def test_animated_pictures_are_videos(format: str) -> None:
    video = read_video(files.animation(format, 12, 250))
    assert (video.rate, video.seconds) == (2.0, 3.0)
    assert files.shown(video.frames) == [round(x) for x in np.linspace(0, 11, 6)]
    assert read_soundtrack(files.animation(format), 16_000) is None


def test_a_still_picture_is_no_video() -> None:
    with pytest.raises(InvalidMedia, match="PNG picture that stands still"):
        read_video(files.animation("PNG", 1))


def test_the_sound_of_a_video() -> None:
    sound = read_soundtrack(files.video(10, sound=files.tone()), 16_000)
    assert sound is not None and len(sound) / 16_000 == pytest.approx(1.0, abs=0.1)
    assert read_soundtrack(VIDEO, 16_000) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty file"),
        (b"%PDF-1.4", "a PDF document, not a video; send a whole MP4"),
        (files.encoded(files.tone(), 16_000, "ipod", "aac"), "no pictures in it"),
        (VIDEO[: len(VIDEO) // 2], "broken or cut short"),  # its index stands at the end
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "plain text"),
    ],
)
def test_what_is_no_video_is_named(data: bytes, words: str) -> None:
    with pytest.raises(InvalidMedia, match=words):
        read_video(data)


def test_a_video_whose_end_is_missing_is_refused() -> None:
    data = files.index_first(files.video(60, 10, g="6"))
    assert len(read_video(data).frames) == 12
    with pytest.raises(InvalidMedia, match=r"announces 60 frames and \d\d are there"):
        read_video(data[: len(data) - 600])
    with pytest.raises(InvalidMedia, match="cut short"):
        read_video(data[:-2])


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 255)), max_size=8))
@settings(max_examples=60)
def test_damaged_files_raise_nothing_else(damage: list[tuple[int, int]]) -> None:
    damaged = bytearray(VIDEO)
    for place, value in damage:
        damaged[place % len(damaged)] = value
    try:
        video = read_video(bytes(damaged), most_seconds=20)
    except InvalidMedia:
        return
    assert video.frames.ndim == 4 and video.rate > 0


@given(st.binary(max_size=200))
def test_any_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(InvalidMedia):
        read_video(data)


@given(st.lists(st.floats(0.001, 3), min_size=1, max_size=40), st.floats(0.1, 30))
def test_the_choice_begins_and_ends_with_the_video_and_never_goes_back(gaps: list[float], fps: float) -> None:
    times = [0.0, *np.cumsum(gaps)]
    seconds = times[-1] + 0.1
    taken = choose(times, seconds, Budget(fps, 20, 1e9, 1, 1))
    assert taken == sorted(taken) and taken[0] == 0 and taken[-1] == len(times) - 1
    assert len(taken) == min(max(2, round(seconds * fps)), 20, len(times))
