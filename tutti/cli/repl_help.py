"""What the conversation of `tutti run` says of its own commands, as Ollama's users know it."""

from __future__ import annotations

COMMANDS = """Available Commands:
  /set            Set session variables
  /show           Show model information
  /load <model>   Load a session or model
  /save <model>   Save your current session
  /list           List the models there are
  /voice          Have answers spoken into a file
  /clear          Clear session context
  /bye            Exit
  /?, /help       Help for a command
  /? shortcuts    Help for keyboard shortcuts

Use \"\"\" to begin a multi-line message.
"""
MEDIA = "Use /path/to/file to include {kinds}.\n"

SET = """Available Commands:
  /set parameter ...     Set a parameter
  /set system <string>   Set system message
  /set history           Enable history
  /set nohistory         Disable history
  /set wordwrap          Enable wordwrap
  /set nowordwrap        Disable wordwrap
  /set format json       Enable JSON mode
  /set noformat          Disable formatting
  /set verbose           Show LLM stats
  /set quiet             Disable LLM stats
  /set think [level]     Enable thinking
  /set nothink           Disable thinking
"""

SHOW = """Available Commands:
  /show info         Show details for this model
  /show license      Show model license
  /show modelfile    Show Modelfile for this model
  /show parameters   Show parameters for this model
  /show system       Show system message
  /show template     Show prompt template
"""

SHORTCUTS = """Available keyboard shortcuts:
  Ctrl + a            Move to the beginning of the line (Home)
  Ctrl + e            Move to the end of the line (End)
   Alt + b            Move back (left) one word
   Alt + f            Move forward (right) one word
  Ctrl + k            Delete the sentence after the cursor
  Ctrl + u            Delete the sentence before the cursor
  Ctrl + w            Delete the word before the cursor

  Ctrl + l            Clear the screen
  Ctrl + g            Open default editor to compose a prompt
  Ctrl + c            Stop the model from responding
  Ctrl + d            Exit tutti (/bye)
"""

_PARAMETERS = {
    "seed <int>": "Random number seed",
    "num_predict <int>": "Max number of tokens to predict",
    "top_k <int>": "Pick from top k num of tokens",
    "top_p <float>": "Pick token based on sum of probabilities",
    "min_p <float>": "Pick token based on top token probability * min_p",
    "num_ctx <int>": "Set the context size",
    "temperature <float>": "Set creativity level",
    "repeat_penalty <float>": "How strongly to penalize repetitions",
    "repeat_last_n <int>": "Set how far back to look for repetitions",
    "num_gpu <int>": "The number of layers to send to the GPU",
    "stop <string> <string> ...": "Set the stop parameters",
}


def parameters(known: frozenset[str]) -> str:
    """The usual parameters among those that the model takes."""
    lines = [
        f"  /set parameter {usage:<23}{text}"
        for usage, text in _PARAMETERS.items()
        if usage.split()[0] in known
    ]
    return "\n".join(("Available Parameters:", *lines, ""))
