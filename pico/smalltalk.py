"""Small talk: greetings, and what pico says about itself. Plainly: a small demonstration model of a toy world."""

from __future__ import annotations

from random import Random

from .phrasing import ask, capital
from .values import LANGS, PINNED, Exchange, Lang, plain, text_key
from .words import Word

HELLO = Word("Hello! I am pico. Ask me about shapes, numbers, days, colours or words.",
             "你好!我是pico。你可以问我形状、数字、日期、颜色和单词。")  # fmt: skip
ABILITIES = Word(
    "I can answer questions about coloured shapes, counting, small sums, days, colours and spelling, in English and Chinese.",
    "我会回答关于彩色形状、数数、小算术、日期、颜色和拼写的问题,会说中文和英文。",
)

_TALK: tuple[tuple[Word, Word], ...] = (
    (Word("(hi|hello|hey|hello there|hi there|good morning|good evening|good day|greetings|hey there|hiya|good afternoon|howdy)( pico|, pico| friend|)(!|.|)",
          "(你好|您好|嗨|早上好|晚上好|大家好|哈喽|你好呀|喂|下午好|hello|hi|早)(,pico|pico|朋友|)(!|。|)"), HELLO),
    (Word("what (can|could) you do( for me|)?", "你(能|会|可以)(做什么|做些什么|干什么|干嘛)?"), ABILITIES),
    (Word("(what do you know( about|)|what are you good at|what are your (skills|abilities)|how can you help( me|)|what can i ask( you|)|help( me|)|what should i ask)?",
          "(你知道什么|你会什么|你有什么本领|你能帮我什么|我可以问(你|)什么|帮助|帮帮我|你的功能是什么|你擅长什么)?"), ABILITIES),
    (Word("(who|what) are you( exactly|)?", "你是(谁|什么|什么东西|哪位)?"),
     Word("I am pico, a small demonstration model of a toy world.", "我是pico,一个玩具世界的小小演示模型。")),
    (Word("(tell me (something |)about yourself|introduce yourself|describe yourself|say something about yourself).", "(介绍一下(你|)自己|介绍你自己|请自我介绍|说说你自己|自我介绍一下)。"),
     Word("I am pico, a small demonstration model of a toy world.", "我是pico,一个玩具世界的小小演示模型。")),
    (Word("(what is your name|what's your name|your name|do you have a name|how are you called|what are you called|what should i call you)?",
          "(你叫什么(名字|)|你的名字是什么|你有名字吗|怎么称呼你|你名字叫什么)?"), Word("My name is pico.", "我叫pico。")),
    (Word("(who (made|created|built|trained|wrote|developed|designed) you|who is your (maker|creator|author)|where do you come from|where are you from)?",
          "(谁(做了|造了|创造了|训练了|开发了|设计了)你|是谁(做的|造的|开发的|创造的)你|你是谁(做的|造的|开发的|训练的)|你从哪里来|你来自哪里)?"),
     Word("The Tutti project made me.", "Tutti项目做了我。")),
    (Word("how are you( today| doing|)?", "(你好吗|你怎么样|你今天怎么样|最近好吗|你还好吗)?"), Word("I am well, thank you.", "我很好,谢谢。")),
    (Word("(thanks|thank you|thank you very much|many thanks|thanks a lot|great, thanks|thx|thank you so much)( pico|)(!|.|)",
          "(谢谢|谢谢你|多谢|非常感谢|谢了|感谢|谢谢您)(,pico|pico|)(!|。|)"), Word("You are welcome.", "不客气。")),
    (Word("(bye|goodbye|see you|good night|bye bye|see you later|farewell|see you soon|so long)( pico|)(!|.|)", "(再见|拜拜|晚安|回头见|下次见|明天见)(,pico|pico|)(!|。|)"),
     Word("Goodbye!", "再见!")),
    (Word("(are you (chatgpt|gpt|claude|gemini|llama|a big model|a human|human|a person|real|alive|a robot|an ai|siri|smart|intelligent))?",
          "(你是(人|人类|机器人|真人|大模型|人工智能|真的)吗|你聪明吗)?"),
     Word("I am pico, a small model, no more than that.", "我是pico,只是一个小模型。")),
    (Word("(how (big|large|small) are you|how many parameters do you have|what is your size|what size are you)?", "(你有多大|你有多少参数|你多大|你有多小)?"),
     Word("I have about two and a half million parameters.", "我有大约二百五十万个参数。")),
    (Word("(what|which) (language|languages) do you (speak|know|understand)?", "你(会|能)说(什么|哪些|哪几种)语言?"), Word("I speak English and Chinese.", "我会说英文和中文。")),
    (Word("(do you|can you) speak (english|chinese)?", "你(会|能)(说|讲)(中文|英文|英语|汉语)吗?"), Word("I speak English and Chinese.", "我会说英文和中文。")),
    (Word("(what is tutti|what's tutti|tell me about tutti|do you know tutti|explain tutti)?", "(什么是Tutti|Tutti是什么|你知道Tutti吗|介绍一下Tutti|tutti是什么)?"),
     Word("Tutti is the program that runs me.", "Tutti是运行我的程序。")),
    (Word("(ok|okay|good|great|nice|well done|very good|cool|fine|wonderful|yes|right|correct|perfect)( pico|)(!|.|)", "(好|好的|很好|真棒|不错|对|是的|太好了|对的|没错|棒)(!|。|)"),
     Word("Good. Ask me something.", "好的。请问我吧。")),
    (Word("(no|wrong|that is wrong|that's not right|not correct|you are wrong|that is not true)( pico|)(!|.|)", "(不|不对|错了|不是|你错了|不正确)(!|。|)"),
     Word("I am sorry. I am only a small model.", "对不起。我只是一个小模型。")),
    (Word("(how old are you|when is your birthday|when were you born|what is your age|where do you live|do you (eat|sleep|dream|like me|love me|have friends|have feelings))?",
          "(你几岁|你多大年纪|你住在哪里|你的生日是哪天|你(睡觉|吃饭|做梦|喜欢我|有朋友)吗)?"), Word("I am a program, so I cannot say.", "我是一个程序,所以说不出来。")),
)  # fmt: skip
_NAME, _WHO, _MAKER, _WELL, _THANKS, _BYE = (_TALK[i][1] for i in (5, 3, 6, 7, 8, 9))
EVERYDAY: dict[Lang, dict[str, Word]] = {
    "en": {
        "hi": HELLO, "hello": HELLO, "hey": HELLO, "good morning": HELLO, "what can you do": ABILITIES, "help": ABILITIES,
        "who are you": _WHO, "what are you": _WHO, "what is your name": _NAME, "who made you": _MAKER, "how are you": _WELL,
        "thanks": _THANKS, "thank you": _THANKS, "bye": _BYE, "goodbye": _BYE,
    },
    "zh": {
        "你好": HELLO, "您好": HELLO, "你会什么": ABILITIES, "你能做什么": ABILITIES, "你会做什么": ABILITIES, "你是谁": _WHO, "你叫什么名字": _NAME,
        "你叫什么": _NAME, "谁做了你": _MAKER, "你好吗": _WELL, "谢谢": _THANKS, "再见": _BYE,
    },
}  # fmt: skip
"""What everybody types first; always in training."""
_PINNED: dict[Lang, frozenset[str]] = {lang: frozenset(map(plain, EVERYDAY[lang])) for lang in LANGS}


def small_talk(rng: Random, lang: Lang) -> Exchange:
    if rng.random() < 0.2:
        question, answer = rng.choice(list(EVERYDAY[lang].items()))
        question = rng.choice((question, capital(question))) + rng.choice(("", "", "!", "?", "."))
        return Exchange("small talk", lang, PINNED, question, answer[lang])
    pattern, answer = rng.choice(_TALK)
    question = ask(rng, lang, (pattern[lang],))
    pinned = plain(question) in _PINNED[lang]
    return Exchange(
        "small talk", lang, PINNED if pinned else text_key("talk", question), question, answer[lang]
    )
