"""Chat templates render as transformers' `apply_chat_template`, and conversations of every OpenAI form are taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from tests.processor.small_tokenizers import write
from tutti.errors import CheckpointError, ConfigError, InvalidRequest
from tutti.models.processor.template import load_templates
from tutti.models.processor.tokenizer import load_tokenizer
from tutti.models.processor.tools import with_tools
from tutti.request import Chat

TEMPLATES = {path.stem: path.read_text() for path in (Path(__file__).parent / "templates").glob("*.jinja")}
SPECIAL = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather <now> in a city & 温度",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
}
USER = {"role": "user", "content": " What's the weather in Zürich & 东京? "}
SYSTEM = {"role": "system", "content": "Be brief. "}
ANSWER = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nIt is fine. "}
CALL = {
    "id": "abcdefghi",
    "type": "function",
    "function": {"name": "get_weather", "arguments": {"city": "Zürich"}},
}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "content": '{"degrees": 21}'}
CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [USER, ANSWER, {"role": "user", "content": "and now?"}],
    "system turns": [SYSTEM, USER, ANSWER, {"role": "user", "content": "and now?"}],
    "tools": [USER, CALLED, RESULT],
    "tools answered": [SYSTEM, USER, CALLED, RESULT, ANSWER, {"role": "user", "content": "thanks"}],
}


def rendered(source: str, chat: Chat) -> str:
    """`chat` by the template `source`."""
    return load_templates(Path("/nowhere"), source, SPECIAL).render(chat)


@pytest.fixture(scope="session")
def reference(folders):
    """A transformers tokenizer to render with."""
    return AutoTokenizer.from_pretrained(folders["byte_level"], **SPECIAL)


def theirs(reference, source: str, messages, **options):
    """What transformers renders, or None when its template raises."""
    try:
        return reference.apply_chat_template(messages, chat_template=source, tokenize=False, **options)
    except Exception:  # noqa: BLE001 - whatever a template raises, it refused
        return None


KNOW_TOOLS = ("chatml_tools", "header_ids", "inst")  # what we do for the others is tested below


@pytest.mark.parametrize("generation", [True, False])
@pytest.mark.parametrize(
    ("name", "talk", "tools"),
    [
        (name, talk, tools)
        for name in sorted(TEMPLATES)
        for talk in CONVERSATIONS
        for tools in ([], [WEATHER, TIME])
        if name in KNOW_TOOLS or not (tools or "tools" in talk)
    ],
)
def test_prompts_equal_transformers(name, talk, tools, generation, reference):
    messages, source = CONVERSATIONS[talk], TEMPLATES[name]
    expected = theirs(reference, source, messages, tools=tools or None, add_generation_prompt=generation)
    chat = Chat(messages=tuple(messages), tools=tuple(tools), add_generation_prompt=generation)
    if expected is None:
        with pytest.raises(InvalidRequest, match="chat template"):
            rendered(source, chat)
    else:
        assert rendered(source, chat) == expected


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("chatml_tools", {"enable_thinking": False}),
        ("chatml_tools", {"enable_thinking": True, "unused": [1]}),
        ("header_ids", {"date_string": "26 Jul 2024"}),
        ("header_ids", {"custom_tools": [TIME]}),
        ("thinking_open", {"documents": [{"title": "T", "text": "x <y>"}]}),
        ("thinking_open", {"bos_token": "<other>"}),
    ],
)
def test_template_arguments_reach_the_template(name, options, reference):
    chat = Chat(messages=(USER,), template_kwargs=options)
    expected = theirs(reference, TEMPLATES[name], [USER], add_generation_prompt=True, **options)
    assert rendered(TEMPLATES[name], chat) == expected != rendered(
        TEMPLATES[name], Chat(messages=(USER,))
    ) or ("unused" in options)


@pytest.mark.parametrize("content", ["The sky is", "The sky is ", "Sky\n"])
@pytest.mark.parametrize("name", ["chatml_tools", "header_ids", "inst", "turns_parts"])
def test_the_final_message_can_be_continued(name, content, reference):
    messages = [USER, {"role": "assistant", "content": content}]
    chat = Chat(messages=tuple(messages), add_generation_prompt=False, continue_final_message=True)
    expected = theirs(reference, TEMPLATES[name], messages, continue_final_message=True)
    assert expected is not None and rendered(TEMPLATES[name], chat) == expected


def test_continuing_and_starting_a_message_exclude_each_other():
    with pytest.raises(InvalidRequest, match="add_generation_prompt to false"):
        rendered(TEMPLATES["chatml_tools"], Chat(messages=(USER,), continue_final_message=True))


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_parts_are_given_as_the_template_takes_them(name):
    parts = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
    joined = "onetwo" if name == "turns_parts" else "one\ntwo"
    whole = rendered(TEMPLATES[name], Chat(messages=({"role": "user", "content": joined},)))
    assert rendered(TEMPLATES[name], Chat(messages=(parts,))) == whole


def test_a_template_that_takes_only_parts_gets_strings_as_parts():
    source = (
        "{% for m in messages %}{% for part in m['content'] %}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %};{% endfor %}"
    )
    assert rendered(source, Chat(messages=({"role": "user", "content": "hi"},))) == "hi;"


def test_pictures_are_refused_where_the_model_takes_text():
    picture = {"type": "image_url", "image_url": {"url": "data:,"}}
    with pytest.raises(
        InvalidRequest, match=r"'image_url' was sent, and this model takes text only"
    ) as refused:
        rendered(TEMPLATES["chatml_tools"], Chat(messages=({"role": "user", "content": [picture]},)))
    assert refused.value.param == "messages[0].content[0]"


@pytest.mark.parametrize("arguments", ['{"city": "Zürich"}', {"city": "Zürich"}])
def test_arguments_as_json_text_reach_templates_as_objects(arguments, reference):
    call = {**CALL, "function": {"name": "get_weather", "arguments": arguments}}
    messages = (USER, {"role": "assistant", "content": None, "tool_calls": [call]}, RESULT)
    expected = theirs(reference, TEMPLATES["header_ids"], [USER, CALLED, RESULT], add_generation_prompt=True)
    assert rendered(TEMPLATES["header_ids"], Chat(messages=messages)) == expected


@pytest.mark.parametrize("arguments", ["", None, '{"cut'])
def test_arguments_that_are_no_json_do_not_fail_the_request(arguments):
    call = {**CALL, "function": {"name": "get_weather", "arguments": arguments}}
    text = rendered(
        TEMPLATES["chatml_tools"], Chat(messages=(USER, {**CALLED, "tool_calls": [call]}, RESULT))
    )
    assert f'"arguments": {arguments or "{}"}' in text


def test_no_content_is_not_the_word_none():
    source = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    assert rendered(source, Chat(messages=(USER, CALLED))).count("None") == 0
    asks = "{% for m in messages %}{% if m['content'] is none %}nothing{% endif %}{% endfor %}{{ tools }}"
    assert rendered(asks, Chat(messages=(CALLED,))) == "nothingNone"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ((), "at least one message"),
        (({"content": "x"},), r"messages\[0\] must be an object with a role"),
        (({"role": "user", "content": 5},), r"messages\[0\].content must be a string or a list"),
        (({"role": "user", "content": [{"type": "text"}]},), r"content\[0\] must have a text"),
        (({"role": "assistant", "tool_calls": [{"id": "x"}]},), r"tool_calls\[0\] must have a function"),
    ],
)
def test_messages_of_a_wrong_form_are_named(messages, said):
    with pytest.raises(InvalidRequest, match=said):
        rendered(TEMPLATES["chatml_tools"], Chat(messages=messages))


def test_what_a_template_raises_reaches_the_caller():
    with pytest.raises(InvalidRequest, match="System role not supported"):
        rendered(TEMPLATES["turns_strict"], Chat(messages=(SYSTEM, USER)))
    with pytest.raises(InvalidRequest, match=r"chat template failed.*TypeError"):
        rendered("{% for m in messages %}{{ m['content'] + 1 }}{% endfor %}", Chat(messages=(USER,)))
    with pytest.raises(InvalidRequest, match="not valid Jinja"):
        rendered(TEMPLATES["inst"], Chat(messages=(USER,), template="{% if %}"))


def test_templates_cannot_leave_the_sandbox():
    for attack in ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "{{ messages.append(1) }}"):
        with pytest.raises(InvalidRequest, match="SecurityError"):
            rendered(attack, Chat(messages=(USER,)))


def test_the_developer_speaks_as_system_unless_the_template_knows_the_role():
    chat = Chat(messages=({"role": "developer", "content": "rule"}, USER))
    assert "<|im_start|>system\nrule<|im_end|>" in rendered(TEMPLATES["chatml_tools"], chat)
    knows = "{% for m in messages %}{{ m.role }} {% endfor %}{# developer #}"
    assert rendered(knows, chat) == "developer user "


def test_tool_choice_none_offers_no_tools():
    chat = Chat(messages=(USER,), tools=(WEATHER,), tool_choice="none")
    assert rendered(TEMPLATES["chatml_tools"], chat) == rendered(
        TEMPLATES["chatml_tools"], Chat(messages=(USER,))
    )


class TestTemplatesWithoutTools:
    """Tools are described in the Hermes form where the template knows none."""

    talk = (USER, {**CALLED, "content": "Let me see."}, RESULT, {**RESULT, "content": "warm"}, ANSWER)

    @pytest.mark.parametrize("name", ["turns_parts", "turns_strict", "thinking_open"])
    def test_tools_reach_the_model(self, name):
        text = rendered(TEMPLATES[name], Chat(messages=(USER,), tools=(WEATHER, TIME)))
        assert json.dumps(WEATHER, ensure_ascii=False) in text and '"name": "get_time"' in text
        assert "<tool_call>" in text and USER["content"].strip() in text

    def test_the_description_joins_the_system_message(self):
        text = rendered(TEMPLATES["turns_parts"], Chat(messages=(SYSTEM, USER), tools=(TIME,)))
        assert text.index("Be brief.") < text.index("get_time") < text.index("Zürich")

    def test_without_a_system_role_it_opens_the_first_user_message(self):
        text = rendered(TEMPLATES["turns_strict"], Chat(messages=(USER,), tools=(TIME,)))
        assert text.startswith("<|endoftext|><start_of_turn>user\nYou can call functions")

    @pytest.mark.parametrize("name", ["turns_parts", "turns_strict"])
    def test_calls_and_results_are_told_as_text(self, name):
        text = rendered(TEMPLATES[name], Chat(messages=self.talk, tools=(WEATHER,)))
        call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
        results = (
            '<tool_response>\n{"degrees": 21}\n</tool_response>\n\n<tool_response>\nwarm\n</tool_response>'
        )
        assert f"<start_of_turn>model\nLet me see.\n{call}<end_of_turn>" in text
        assert f"<start_of_turn>user\n{results}<end_of_turn>" in text

    def test_media_that_a_tool_answers_stay_where_they_are(self):
        image = {"type": "image"}
        shown = {**RESULT, "content": [{"type": "text", "text": "here:"}, image]}
        ask = {"role": "user", "content": [image, {"type": "text", "text": "Which?"}]}
        told = with_tools((USER, CALLED, shown, ask), (), system_role=True)[-1]
        assert [part.get("text") for part in told["content"]] == [
            "<tool_response>\n",
            "here:",
            None,
            "\n</tool_response>",
            None,
            "Which?",
        ]


class TestWhereTemplatesAreFound:
    """The places transformers reads, in its order."""

    def render(self, folder: Path, **chat) -> str:
        tokenizer = load_tokenizer(folder)
        return load_templates(folder, None, tokenizer.special_tokens).render(Chat(messages=(USER,), **chat))

    def test_in_tokenizer_config(self, save):
        assert self.render(save(chat_template="config {{ eos_token }}")) == "config <|im_end|>"

    def test_named_ones_in_tokenizer_config(self, save):
        named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
        folder = save(chat_template=named)
        assert self.render(folder) == "plain"
        assert self.render(folder, tools=(TIME,)) == "with tools"
        assert self.render(folder, template="tool_use") == "with tools"

    def test_files_of_their_own_come_first(self, save):
        folder = save(chat_template="config")
        (folder / "chat_template.jinja").write_text("file")
        (folder / "additional_chat_templates").mkdir()
        (folder / "additional_chat_templates" / "tool_use.jinja").write_text("tools file")
        reference = AutoTokenizer.from_pretrained(folder)
        for tools in ((), (TIME,)):
            expected = reference.apply_chat_template([USER], tools=list(tools) or None, tokenize=False)
            assert self.render(folder, tools=tools) == expected

    def test_the_older_processors_file(self, save):
        folder = save()
        write(folder / "chat_template.json", {"chat_template": "older"})
        assert self.render(folder) == "older"

    def test_the_request_overrides_the_command_line_overrides_the_model(self, save, tmp_path):
        folder = save(chat_template="model")
        (tmp_path / "mine.jinja").write_text("flag")
        templates = load_templates(folder, str(tmp_path / "mine.jinja"), {})
        assert templates.render(Chat(messages=(USER,))) == "flag"
        assert templates.render(Chat(messages=(USER,), template="{{ 'request' }}")) == "request"
        assert load_templates(folder, "{{ 'inline' }}", {}).render(Chat(messages=(USER,))) == "inline"

    def test_a_model_without_one_says_what_to_do(self, save):
        with pytest.raises(InvalidRequest, match=r"no chat template.*--chat-template.*/v1/completions"):
            self.render(save())
        with pytest.raises(InvalidRequest, match="no default chat template; name one of tool_use"):
            self.render(save(chat_template=[{"name": "tool_use", "template": "x"}]))

    def test_broken_ones_are_told_at_start(self, save):
        with pytest.raises(CheckpointError, match=r"not valid Jinja.*--chat-template"):
            self.render(save(chat_template="{% for %}"))
        with pytest.raises(ConfigError, match="--chat-template: the chat template is not valid Jinja"):
            load_templates(Path("/nowhere"), "{% for %}", {})
        with pytest.raises(ConfigError, match=r"no file /nowhere/chat\.jinja"):
            load_templates(Path("/nowhere"), "/nowhere/chat.jinja", {})
