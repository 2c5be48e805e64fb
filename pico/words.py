"""The words of the toy world in both languages: colours, shapes, numbers, days, names, things."""

from __future__ import annotations

from dataclasses import dataclass

from .values import Lang


@dataclass(frozen=True, slots=True)
class Word:
    en: str
    zh: str

    def __getitem__(self, lang: Lang) -> str:
        return self.zh if lang == "zh" else self.en


def _words(pairs: str) -> tuple[Word, ...]:
    return tuple(Word(*pair.split("/")) for pair in " ".join(pairs.split()).split(" "))


COLOURS = _words("red/红色 blue/蓝色 green/绿色 yellow/黄色 orange/橙色 purple/紫色 black/黑色 white/白色")
SHAPES = _words("circle/圆形 square/正方形 triangle/三角形 star/星形 heart/心形 diamond/菱形")
DAYS = _words(
    "Monday/星期一 Tuesday/星期二 Wednesday/星期三 Thursday/星期四 Friday/星期五 Saturday/星期六 Sunday/星期日"
)
MONTHS = _words(
    "January/一月 February/二月 March/三月 April/四月 May/五月 June/六月 July/七月 August/八月 September/九月 "
    "October/十月 November/十一月 December/十二月"
)
NUMBERS_EN = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
NUMBERS_ZH = "零 一 二 三 四 五 六 七 八 九 十 十一 十二 十三 十四 十五 十六 十七 十八 十九 二十".split()

NAMES_EN = (
    "Anna Ben Clara David Emma Frank Grace Henry Ivy Jack Kate Leo Mary Nick Olivia Paul Rosa Sam Tom Vera Will Zoe "
    "Alice Bob Carl Diana Eric Fiona George Helen Lily Max Nora Oscar Peter Ruth Sara Victor"
).split()
NAMES_ZH = "小明 小红 小华 小丽 小刚 小芳 小军 小美 李雷 王芳 张伟 刘洋 陈静 杨光 赵敏 周杰 吴磊 孙悦 安娜 汤姆".split()

THINGS = _words(
    "apple/苹果 bag/书包 ball/球 hat/帽子 cup/杯子 egg/鸡蛋 cake/蛋糕 coin/硬币 toy/玩具 pear/梨 stone/石头 lemon/柠檬"
)

SPELLED = (
    "cat dog bird fish cow pig hen horse sheep mouse duck bear lion tiger apple bread milk water rice cake egg tea "
    "book pen paper table chair door house window bed lamp cup plate spoon ball box bag hat coat shoe sun moon star "
    "sky rain snow wind fire tree leaf flower grass stone river sea hill road car bus train ship boat plane red blue "
    "green yellow orange purple black white pink brown circle square triangle heart diamond hand foot head eye ear "
    "nose mouth hair arm leg man woman boy girl baby king queen friend mother father school city farm garden day "
    "night week month year one two three four five six seven eight nine ten hello world happy small big good new old "
    "love music song game word letter number name pico tutti"
).split()


def number(lang: Lang, value: int, digits: bool) -> str:
    """`7`, `seven` or `七`; beyond twenty always digits."""
    if digits or value > 20:
        return str(value)
    return NUMBERS_ZH[value] if lang == "zh" else NUMBERS_EN[value]


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"
