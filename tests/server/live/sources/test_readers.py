"""Folders, recordings, cameras: what they read, in which order, and what is wrong with what cannot be read."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from server.live.sources import camera as camera_module
from server.live.sources.camera import CameraReader
from server.live.sources.folder import FolderReader
from server.live.sources.pictures import fitted, read_picture
from server.live.sources.reading import Reader, Shape, SourceFailed, SourceFrame, Timed
from server.live.sources.recording import RecordingReader, RecordingWriter
from tests.server.live.sources.made import BLUE, GREEN, PICTURES, RED, VALUES, colour_of, film, picture, recording

FIRST_US = 1_700_000_000_000_000


def _all(reader: Reader) -> Iterator[Timed]:
    """What it gives until its end."""
    try:
        reader.open()
        while (timed := reader.read()) is not None:
            yield timed
    finally:
        reader.close()


# Folders


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    """Each picture in the model's size, at the folder's rate; what is no picture is passed over."""
    (tmp_path / "b.jpg").write_bytes(picture(GREEN, kind="JPEG"))
    (tmp_path / "a.png").write_bytes(picture(RED))
    (tmp_path / "c.png").write_bytes(b"no picture at all")
    (tmp_path / "notes.txt").write_bytes(b"for people")
    (tmp_path / "d.webp").write_bytes(picture(BLUE, kind="WEBP"))
    given = list(_all(FolderReader(tmp_path, PICTURES, rate=10.0, repeat=False)))
    assert [colour_of(timed.frame.image) for timed in given] == ["red", "green", "blue"]
    assert [timed.due for timed in given] == [0.0, 0.1, 0.2]


def test_a_folder_goes_round_and_sees_what_has_come(tmp_path: Path) -> None:
    """A picture that came while a round went on is in the next."""
    (tmp_path / "a.png").write_bytes(picture(RED))
    given = _all(FolderReader(tmp_path, PICTURES, rate=10.0))
    first = [next(given), next(given)]
    (tmp_path / "b.png").write_bytes(picture(BLUE))
    colours = [colour_of(timed.frame.image) for timed in [*first, *islice(given, 3)]]
    assert colours == ["red", "red", "red", "blue", "red"]


@pytest.mark.parametrize("what", ["missing", "empty", "bad"])
def test_a_folder_without_pictures_has_failed(tmp_path: Path, what: str) -> None:
    """It is not there, has none, or has none that can be read."""
    if what == "bad":
        (tmp_path / "a.png").write_bytes(picture(RED)[:40])
    reader = FolderReader(tmp_path / "none" if what == "missing" else tmp_path, PICTURES, rate=10.0)
    told = {
        "missing": "No such file",
        "empty": "no picture in the folder",
        "bad": "no file of the folder could be read",
    }
    with pytest.raises(SourceFailed, match=told[what]):
        next(_all(reader))


def test_a_folder_that_vanishes_has_failed(tmp_path: Path) -> None:
    """At its next round."""
    (tmp_path / "a.png").write_bytes(picture(RED))
    given = _all(FolderReader(tmp_path, PICTURES, rate=10.0))
    next(given)
    (tmp_path / "a.png").unlink()
    with pytest.raises(SourceFailed, match="no picture in the folder"):
        next(given)


def test_a_picture_is_cut_to_the_models_proportions() -> None:
    """The middle of it is kept, in red, green, blue from the top row on."""
    pixels = read_picture(picture(RED, 100, 20))
    pixels[:, :40] = (0, 0, 0)
    pixels[:, 60:] = (0, 0, 0)
    square = fitted(pixels, Shape(width=4, height=4))
    assert square == bytes(RED) * 16


# Recordings


def test_a_recording_is_played_in_its_own_times(tmp_path: Path) -> None:
    """Or at a rate, where one is given."""
    path = recording(
        tmp_path / "take.jsonl",
        {"captured_us": FIRST_US, "values": [0, 1.5]},
        {"captured_us": FIRST_US + 40_000, "values": [0.25, 2]},
        {"captured_us": FIRST_US + 50_000, "values": [0.5, 2]},
    )
    given = list(_all(RecordingReader(path, VALUES)))
    assert [timed.frame.values for timed in given] == [(0.0, 1.5), (0.25, 2.0), (0.5, 2.0)]
    assert [timed.due for timed in given] == pytest.approx([0, 0.04, 0.05])
    assert [timed.due for timed in _all(RecordingReader(path, VALUES, rate=10))] == pytest.approx([0, 0.1, 0.2])


def test_a_recording_that_repeats_has_no_gap(tmp_path: Path) -> None:
    """Its first frame comes after its last as that came after the one before."""
    frames = [{"captured_us": FIRST_US + step, "values": [step, 0]} for step in (0, 20_000, 40_000)]
    reader = RecordingReader(recording(tmp_path / "take.jsonl", *frames), VALUES, repeat=True)
    assert [timed.due for timed in islice(_all(reader), 7)] == pytest.approx([0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12])


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Values as they were, pictures to the last bit."""
    image = bytes(range(192)) * 3
    for shape, frame in (
        (VALUES, SourceFrame(values=(0.125, -3.0), captured_us=FIRST_US)),
        (PICTURES, SourceFrame(image=image, captured_us=FIRST_US)),
    ):
        file = io.BytesIO()
        RecordingWriter(file, shape).add(frame)
        path = tmp_path / "take.jsonl"
        path.write_bytes(file.getvalue())
        (timed,) = _all(RecordingReader(path, shape))
        assert (timed.frame.values, timed.frame.image) == (frame.values, frame.image)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("no json", "line 2: no JSON"),
        ("[" * 100_000, "line 2: no JSON"),
        ([], "line 2: no frame; it needs captured_us"),
        ({"values": [1, 2]}, "line 2: no frame"),
        ({"captured_us": 1.5, "values": [1, 2]}, "line 2: no frame"),
        ({"captured_us": 1, "values": [1]}, "line 2: values must be 2 finite numbers"),
        ({"captured_us": 1, "values": [1, "2"]}, "line 2: values must be"),
        ({"captured_us": 1, "values": [1, True]}, "line 2: values must be"),
        ('{"captured_us": 1, "values": [1, NaN]}', "line 2: values must be"),
        ({"captured_us": 1, "values": [1, 10**400]}, "line 2: values must be"),
        ("x" * (5 << 20), "line 2: more than 4194304 bytes"),
    ],
)
def test_a_bad_line_is_told_by_its_number(tmp_path: Path, line: Any, told: str) -> None:
    """With what it should have been."""
    with pytest.raises(SourceFailed, match=told):
        list(_all(RecordingReader(recording(tmp_path / "take.jsonl", line), VALUES)))


def test_a_picture_that_is_none_is_told(tmp_path: Path) -> None:
    """Base64 that is none, or of what is no picture."""
    for image in (5, "%%%", base64.b64encode(b"no picture").decode()):
        path = recording(tmp_path / "take.jsonl", {"captured_us": 1, "image": image}, inputs=())
        with pytest.raises(SourceFailed, match="line 2: image must be a picture"):
            list(_all(RecordingReader(path, PICTURES)))


def test_times_that_go_backwards_are_told(tmp_path: Path) -> None:
    """By the line in which they do."""
    path = recording(tmp_path / "x", {"captured_us": 2, "values": [1, 2]}, {"captured_us": 1, "values": [1, 2]})
    with pytest.raises(SourceFailed, match="line 3: captured_us goes backwards"):
        list(_all(RecordingReader(path, VALUES)))


def test_a_recording_for_another_model_is_told(tmp_path: Path) -> None:
    """As is a file that is no recording, or not there."""
    path = recording(tmp_path / "take.jsonl", inputs=("smile", "brow"))
    with pytest.raises(SourceFailed, match="inputs are not the model's: smile, jaw"):
        next(_all(RecordingReader(path, VALUES)))
    path.write_bytes(b'{"some": "json"}\n')
    with pytest.raises(SourceFailed, match="line 1: no recording"):
        next(_all(RecordingReader(path, VALUES)))
    with pytest.raises(SourceFailed, match="No such file"):
        RecordingReader(tmp_path / "none", VALUES).open()


# Cameras


def test_a_film_stands_in_for_a_camera(tmp_path: Path) -> None:
    """Its frames come in its own rate, or in the one that is given; at its end there are no more."""
    film(tmp_path / "film.avi", [RED, GREEN, BLUE])
    given = list(_all(CameraReader(str(tmp_path / "film.avi"), PICTURES, now=lambda: 7.0)))
    assert [colour_of(timed.frame.image) for timed in given] == ["red", "green", "blue"]
    assert [timed.due for timed in given] == pytest.approx([0, 0.04, 0.08])
    quicker = CameraReader(str(tmp_path / "film.avi"), PICTURES, now=lambda: 7.0, rate=50)
    assert [timed.due for timed in _all(quicker)] == pytest.approx([0, 0.02, 0.04])


def test_a_film_may_go_round(tmp_path: Path) -> None:
    """From its last frame to its first."""
    film(tmp_path / "film.avi", [RED, BLUE])
    given = islice(_all(CameraReader(str(tmp_path / "film.avi"), PICTURES, now=lambda: 7.0, repeat=True)), 5)
    assert [colour_of(timed.frame.image) for timed in given] == ["red", "blue", "red", "blue", "red"]


def test_a_camera_that_is_not_there_is_told(tmp_path: Path) -> None:
    """When it is opened."""
    with pytest.raises(SourceFailed, match="cannot be opened"):
        CameraReader(str(tmp_path / "none.avi"), PICTURES, now=lambda: 7.0).open()


class Device:
    """As VideoCapture is, for a device that gives 30 frames a second."""

    def __init__(self, frames: int) -> None:
        self._left = frames
        self.now = 100.0

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        return -1.0

    def set(self, what: int, value: float) -> bool:
        return False

    def grab(self) -> bool:
        self._left -= 1
        self.now += 1 / 30
        return self._left >= 0

    def retrieve(self) -> tuple[bool, Any]:
        return True, read_picture(picture(GREEN))

    def release(self) -> None:
        self._left = 0


class Driver:
    """As cv2 is, as far as a camera needs it."""

    CAP_PROP_FRAME_COUNT, CAP_PROP_FPS, CAP_PROP_BUFFERSIZE = count(), count(), count()

    def __init__(self, device: Device) -> None:
        self._device = device
        self.asked: list[Any] = []

    def VideoCapture(self, place: Any) -> Device:
        self.asked.append(place)
        return self._device


@pytest.mark.parametrize(("rate", "given"), [(0.0, 30), (30.0, 30), (10.0, 10), (100.0, 30)])
def test_a_camera_gives_its_newest(monkeypatch: pytest.MonkeyPatch, rate: float, given: int) -> None:
    """At a rate below its own some frames are let go; each says when it was there; at the end of its life it has failed."""
    device = Device(30)
    driver = Driver(device)
    monkeypatch.setattr(camera_module, "opencv", lambda: driver)
    reader = CameraReader("0", PICTURES, now=lambda: device.now, rate=rate)
    frames: list[Timed] = []
    with pytest.raises(SourceFailed, match="no frames any more"):
        frames.extend(_all(reader))
    assert given <= len(frames) <= given + 1
    assert {colour_of(timed.frame.image) for timed in frames} == {"green"}
    assert {timed.due for timed in frames} == {None}
    assert [timed.frame.captured_us for timed in frames] == sorted({timed.frame.captured_us for timed in frames})
    assert driver.asked == [0]
