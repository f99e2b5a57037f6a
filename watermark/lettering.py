"""Text → a layer: light letters in a dark outline, so that they can be read on any ground.

The layer is drawn larger than needed, without regard to the pixel grid; `watermark.signing` scales it to the exact width.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from watermark.fonts import Cluster, Face, FontShelf, is_ignorable

FILL = (255, 255, 255)
OUTLINE = (16, 16, 16)  # not quite black, so that the mark's edge shows on a black ground too
REFERENCE = 64  # pixels per em at which texts are measured
LINE_HEIGHT = 1.2  # em
OUTLINE_EM = 1 / 12  # em; thinner outlines vanish at ten pixels, thicker ones fill the letters
MAX_OUTLINE = 4.0  # pixels; contract A's placement is exact to 5, also where a dark ground hides the outline
READABLE = 10.0  # pixels per em: small letters are five pixels high
DENSE = 1.3  # ideographs, syllables and emoji have finer strokes and need so much more
READABLE_FROM = 512  # pixels of picture width; smaller pictures have proportionally smaller letters
LINE_SHARE = 2 / 3  # one line's height of its width: "Jay" still fills its width, and a single letter is no billboard
LONG_WORD = 12  # clusters that fit at a readable size into the narrowest mark of a 512 pixel picture

Align = Literal["left", "center", "right"]
Line = list[Cluster]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a text must fit: `width` to fill, `height` not to exceed, in pixels; letters of `readable` pixels per em."""

    width: int
    height: int
    readable: float
    align: Align


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbours with one face: where its baseline begins, in pixels, and how far its ink reaches."""

    text: str
    face: Face
    x: float
    y: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Layer:
    """A mark before it is scaled: RGBA, how high it may become in pixels, and what its author should know."""

    image: Image.Image
    highest: int
    warnings: tuple[str, ...] = ()


def lettered(text: str, fonts: FontShelf, frame: Frame) -> Layer:
    """The text as a layer, about as large as the frame or larger.

    The text stands in one line if that is readable at the frame's width, otherwise in as many as it takes.
    """
    clusters, missing = fonts.clusters(text)
    writer = _Writer(fonts.layout, "rtl" if _is_right_to_left(text) else "ltr", frame.align)
    lines, size = _best_lines(clusters, writer, frame)
    warnings = [_missing(missing)] if missing else []
    if size < frame.readable * 0.9:  # a tenth less is not worth a word
        warnings.append(f"signature: the text is long for its place, its letters are only {size:.0f} px high")
    return Layer(writer.drawn(lines, size, _oversampling(size)), _highest(frame, len(lines)), tuple(warnings))


class _Writer:
    """Places and draws lines of clusters. Keeps its open fonts, so it serves one thread."""

    def __init__(self, layout: ImageFont.Layout, direction: Literal["ltr", "rtl"], align: Align) -> None:
        self._layout = layout
        self._direction = direction
        self._shaping: str | None = direction if layout == ImageFont.Layout.RAQM else None
        self._align = align
        self._fonts: dict[tuple[Face, float], ImageFont.FreeTypeFont] = {}

    def drawn(self, lines: list[Line], size: float, oversampling: int) -> Image.Image:
        """The lines as an RGBA layer, `size` × `oversampling` pixels per em, with nothing around the ink."""
        outline = min(size * OUTLINE_EM, MAX_OUTLINE) * oversampling
        size *= oversampling
        runs = self._runs(lines, size)
        left, top, right, bottom = _union(runs, outline)
        canvas = _Canvas(max(1, round(right - left) + 2), max(1, round(bottom - top) + 2), outline)
        for run in runs:
            canvas.write(run, self._font(run.face, size), (run.x - left + 1, run.y - top + 1), size, self._shaping)
        return canvas.layer()

    def extent(self, lines: list[Line]) -> tuple[float, float]:
        """Width and height of the ink with its outline, in em."""
        left, top, right, bottom = _union(self._runs(lines, REFERENCE), REFERENCE * OUTLINE_EM)
        return max(right - left, 1) / REFERENCE, max(bottom - top, 1) / REFERENCE

    def advance(self, clusters: Line) -> float:
        """How far a line reaches, in em."""
        return sum(run.box[2] - run.box[0] for run in self._runs([clusters], REFERENCE)) / REFERENCE

    def _runs(self, lines: list[Line], size: float) -> list[_Run]:
        placed = [self._line(line, size, number * size * LINE_HEIGHT) for number, line in enumerate(lines)]
        widest = max(_right(line) for line in placed)
        free = {"left": 0.0, "center": 0.5, "right": 1.0}[self._align]
        return [_moved(run, (widest - _right(line)) * free) for line in placed for run in line]

    def _line(self, line: Line, size: float, y: float) -> list[_Run]:
        texts = [(face, "".join(each.text for each in group)) for face, group in groupby(line, lambda each: each.face)]
        runs: list[_Run] = []
        x = 0.0
        for face, text in texts if self._direction == "ltr" else reversed(texts):
            shown = text if self._shaping else "".join(each for each in text if not is_ignorable(each))
            font = self._font(face, size)
            scale = size / face.strike if face.strike else 1.0
            box = font.getbbox(shown, anchor="ls", direction=self._shaping)
            left, top, right, bottom = (edge * scale for edge in box)
            runs.append(_Run(shown, face, x, y, (x + left, y + top, x + right, y + bottom)))
            x += font.getlength(shown, direction=self._shaping) * scale
        return runs

    def _font(self, face: Face, size: float) -> ImageFont.FreeTypeFont:
        font = self._fonts.get((face, size))
        if font is None:
            font = self._fonts[face, size] = face.at(size, self._layout)
        return font


class _Canvas:
    """Where letters and bitmaps meet: the outline of all lies under the fill of all."""

    def __init__(self, width: int, height: int, outline: float) -> None:
        self._outline = outline
        self._edge = Image.new("L", (width, height))
        self._fill = Image.new("L", (width, height))
        self._bitmaps = Image.new("RGBA", (width, height))

    def write(
        self, run: _Run, font: ImageFont.FreeTypeFont, at: tuple[float, float], size: float, direction: str | None
    ) -> None:
        """Draw a run with its baseline's left end at `at`."""
        if run.face.strike:
            self._write_bitmaps(run.text, font, at, size / run.face.strike, direction)
            return
        for plane, stroke in ((self._edge, self._outline), (self._fill, 0.0)):
            ImageDraw.Draw(plane).text(
                at, run.text, fill=255, font=font, anchor="ls", stroke_width=stroke, direction=direction
            )

    def layer(self) -> Image.Image:
        """Everything written, as RGBA."""
        bitmap_alpha = self._bitmaps.getchannel("A")
        edge = ImageChops.lighter(self._edge, _grown(bitmap_alpha, round(self._outline)))
        layer = Image.new("RGB", edge.size, OUTLINE)
        layer.paste(FILL, mask=self._fill)
        layer.paste(self._bitmaps.convert("RGB"), mask=bitmap_alpha)
        layer.putalpha(ImageChops.lighter(edge, self._fill))
        return layer

    def _write_bitmaps(
        self, text: str, font: ImageFont.FreeTypeFont, at: tuple[float, float], scale: float, direction: str | None
    ) -> None:
        left, top, right, bottom = (round(edge) for edge in font.getbbox(text, anchor="ls", direction=direction))
        if right <= left or bottom <= top:
            return
        strike = Image.new("RGBA", (right - left, bottom - top))
        ImageDraw.Draw(strike).text(
            (-left, -top), text, font=font, anchor="ls", embedded_color=True, direction=direction
        )
        scaled = strike.resize((max(1, round(strike.width * scale)), max(1, round(strike.height * scale))))
        self._bitmaps.paste(scaled, (round(at[0] + left * scale), round(at[1] + top * scale)))


def _grown(alpha: Image.Image, pixels: int) -> Image.Image:
    """Everything in it, that much larger on every side; a pixel at a time, which costs less than one large filter."""
    if alpha.getbbox() is not None:
        for _ in range(pixels):
            alpha = alpha.filter(ImageFilter.MaxFilter(3))
    return alpha


def _best_lines(clusters: Line, writer: _Writer, frame: Frame) -> tuple[list[Line], float]:
    """The fewest lines that are readable, or else those with the largest letters; and the size, in pixels per em."""
    readable = frame.readable * (DENSE if any(_is_wide(cluster) for cluster in clusters) else 1)
    lines, size = [clusters], _size_of([clusters], writer, frame)
    if size >= readable or len(clusters) == 1:
        return lines, size
    words = [(word, writer.advance(word)) for word in _words(clusters)]
    for count in range(_fewest_lines(sum(width for _, width in words), frame, readable), len(clusters) + 1):
        more = _broken(words, count)
        larger = _size_of(more, writer, frame)
        if larger > size:
            lines, size = more, larger
        if size >= readable or _highest(frame, count) / (count * LINE_HEIGHT) < size:  # more lines would only be lower
            break
    return lines, size


def _fewest_lines(advance: float, frame: Frame, readable: float) -> int:
    """Where to begin to count lines for a text of so many em, by area, and a fifth less to be safe; at least 2."""
    for_reading = advance * readable / frame.width
    for_filling = math.sqrt(advance * frame.height / frame.width / LINE_HEIGHT)
    return max(2, int(0.8 * min(for_reading, for_filling)))


def _size_of(lines: list[Line], writer: _Writer, frame: Frame) -> float:
    """The largest size at which the lines fit, in pixels per em."""
    width, height = writer.extent(lines)
    return min(frame.width / width, _highest(frame, len(lines)) / height)


def _highest(frame: Frame, lines: int) -> int:
    return min(frame.height, max(1, round(frame.width * LINE_SHARE))) if lines == 1 else frame.height


def _broken(words: list[tuple[Line, float]], count: int) -> list[Line]:
    """The words, each with its width, in at most `count` lines, the longest as short as it can be."""
    limit = max(sum(width for _, width in words) / count, *(width for _, width in words))
    while len(lines := _filled(words, limit)) > count:
        limit *= 1.05
    return lines


def _filled(words: list[tuple[Line, float]], limit: float) -> list[Line]:
    lines: list[Line] = [[]]
    reached = 0.0
    for word, width in words:
        if lines[-1] and reached + width > limit * 1.001:
            lines.append([])
            reached = 0.0
        lines[-1].extend(word)
        reached += width
    return [_without_end_spaces(line) for line in lines]


def _words(clusters: Line) -> list[Line]:
    """Where lines may break: after a space, around ideographs and syllables, and in words longer than any line."""
    words: list[Line] = [[]]
    for cluster in clusters:
        last = words[-1]
        if last and (last[-1].text.isspace() or _is_wide(cluster) or _is_wide(last[-1]) or len(last) >= LONG_WORD):
            words.append([])
        words[-1].append(cluster)
    return words


def _without_end_spaces(line: Line) -> Line:
    while len(line) > 1 and line[-1].text.isspace():
        line = line[:-1]
    return line


def _is_wide(cluster: Cluster) -> bool:
    return unicodedata.east_asian_width(cluster.text[0]) in "WF"


def _is_right_to_left(text: str) -> bool:
    """Whether the first character that has a direction goes right to left (UAX 9, rules P2 and P3)."""
    strong = (unicodedata.bidirectional(each) for each in text)
    return next((each for each in strong if each in ("L", "R", "AL")), "L") != "L"


def _union(runs: list[_Run], outline: float) -> tuple[float, float, float, float]:
    lefts, tops, rights, bottoms = zip(*(run.box for run in runs), strict=True)
    return min(lefts) - outline, min(tops) - outline, max(rights) + outline, max(bottoms) + outline


def _right(line: list[_Run]) -> float:
    return max(run.box[2] for run in line)


def _moved(run: _Run, right: float) -> _Run:
    left, top, far, bottom = run.box
    return _Run(run.text, run.face, run.x + right, run.y, (left + right, top, far + right, bottom))


def _oversampling(size: float) -> int:
    """Drawing larger and scaling down frees small letters from the pixel grid; large ones need it less."""
    return 4 if size < 24 else 2


def _missing(characters: list[str]) -> str:
    shown = ", ".join(
        f"'{each}' (U+{ord(each):04X})" if each.isprintable() else f"U+{ord(each):04X}" for each in characters
    )
    return f"signature: no font here has {shown}"
