"""Arrays come out of pickles as they went in, and nothing that a pickle names is run."""

import collections
import io
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rcnnkit import apart
from rcnnkit.pickles import read_pickle, unpickle


def same(one, two):
    if isinstance(two, np.ndarray) and two.dtype != object:
        return isinstance(one, np.ndarray) and one.dtype == two.dtype and np.array_equal(one, two)
    if isinstance(two, dict):
        return list(one) == list(two) and all(same(one[k], two[k]) for k in two)
    if isinstance(two, list | tuple | np.ndarray):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two and type(one) is type(two)


def unpickled(text):
    """What the process that reads files makes of one, here and now."""
    return unpickle(io.BytesIO(text), 10_000_000)


VALUES = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(6, dtype=">u2").reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(20)[::3],
    np.zeros((0, 4)),
    np.array([True, False]),
    np.array(3, dtype=np.int8),
    {"ids": [139, "000005"], "cfg": "TEST: 1", "nothing": None, "pair": (1.5, True)},
    collections.OrderedDict(a=[np.ones(2)], b=b"bytes"),
    [[], [np.ones((1, 5), dtype=np.float16)]],
    "ß漢",
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_goes_in_comes_out(protocol):
    for value in VALUES:
        assert same(unpickled(pickle.dumps(value, protocol)), value), value
    boxes = np.empty(2, dtype=object)
    boxes[:] = [np.ones((2, 4)), np.zeros((0, 4))]
    found = unpickled(pickle.dumps([boxes, np.int64(7), np.float32(0.5)], protocol))
    assert same(found[0], list(boxes))
    assert found[1:] == [7, 0.5]


def test_a_file_comes_through_another_process_unchanged(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(VALUES))
    assert same(read_pickle(tmp_path / "a.pkl"), VALUES)


def test_a_pickle_of_python_2(tmp_path):
    # As cPickle wrote it there, protocol 2: the array's bytes are a `str`.
    data = np.array([[1.5, 2, 3, 4]], dtype="<f4").tobytes()
    text = (
        b"\x80\x02]cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x04\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U" + bytes([len(data)]) + data + b"tba."
    )
    (tmp_path / "a.pkl").write_bytes(text)
    (found,) = read_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(found, np.array([[1.5, 2, 3, 4]], dtype=np.float32))
    assert found.dtype == np.float32


class Runs:
    """Unpickled, it calls `function(*arguments)`."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(mark: Path):
    """Pickles that would make the file `mark`, or reach for something that could."""
    command = f"touch '{mark}'"
    array = np.empty(1, dtype=object)
    array[0] = Runs(os.system, command)
    for value in (
        Runs(os.system, command),
        {"ids": [1], "boxes": [Runs(eval, f"open({str(mark)!r}, 'w')")]},
        array,
        Runs(np.save, str(mark), np.ones(1)),
        Runs(getattr, "text", "upper"),
    ):
        for protocol in (0, 2, 4):
            yield pickle.dumps(value, protocol)
    call = f"(S'{mark}'\nS'w'\nt"
    yield f"cio\nopen\n{call}R.".encode()
    yield f"(S'{command}'\nios\nsystem\n.".encode()  # INST
    yield f"\x80\x02cnumpy\nos.system\n(S'{command}'\ntR.".encode()  # through numpy's own imports
    yield b"\x80\x04\x8c\x05numpy\x8c\x10dtype.__reduce__\x93."  # a dotted name
    yield b"\x80\x02\x82\x01."  # an extension code
    yield b"Psomewhere\n."  # a persistent id
    yield b"ccopyreg\n_extension_registry\n."
    yield b"ccopyreg\nadd_extension\n(S'os'\nS'system'\nK\x01tR."


def test_nothing_runs(tmp_path):
    mark = tmp_path / "ran"
    for number, text in enumerate(hostile(mark)):
        with pytest.raises(ValueError, match=r"."):
            unpickled(text)
        assert not mark.exists(), number
    (tmp_path / "a.pkl").write_bytes(next(hostile(mark)))
    with pytest.raises(ValueError, match=r"a\.pkl is not read: it asks for posix\.system, and only arrays and plain"):
        read_pickle(tmp_path / "a.pkl")
    assert not mark.exists()
    for text in list(hostile(mark))[:1]:  # it would have run
        pickle.loads(text)
    assert mark.exists()


@pytest.mark.parametrize(
    "text",
    [
        b"cnumpy\ndtype\n}S'__init__'\nI1\nsb.",  # BUILD on the class itself
        b"cnumpy\ndtype\nN}S'__init__'\nI1\ns\x86b.",
        b"ccollections\nOrderedDict\n}S'x'\nI1\nsb.",
        b"c_codecs\nencode\nN}S'x'\nI1\ns\x86b.",
        b"cnumpy\nndarray\n.",  # a name alone
        b"cnumpy\nndarray\n)R.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR.",  # an array without its content
        b"\x80\x04\x8f(cnumpy\ndtype\n\x90.",  # hidden in a set
        b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(S'O8'\ntRS'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(I1\nS'x'\ntR.",
        b"cdetectron2.structures.boxes\nBoxMode\n(S'x'\ntR.",
    ],
)
def test_what_numpy_s_names_could_be_misused_for(text):
    with pytest.raises(ValueError, match=r"."):
        unpickled(text)
    assert same(unpickled(pickle.dumps(VALUES[0])), VALUES[0])  # and the next one is read as ever


@pytest.mark.parametrize("code", ["f4", "O8", "V8", "M8", "f3", "i4,i4"])
def test_arrays_that_are_not_what_they_say(code):
    def array(shape: bytes, order: bytes, data: bytes) -> bytes:
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
            + b"".join(b"I" + n + b"\n" for n in shape.split())
            + b"tcnumpy\ndtype\n(S'"
            + code.encode()
            + b"'\nI0\nI1\ntR(I3\nS'"
            + order
            + b"'\nNNNI-1\nI-1\nI0\ntbI00\nB"
            + struct.pack("<I", len(data))
            + data
            + b"tb."
        )

    good = array(b"2", b"<", bytes(8))
    bad = [array(b"3", b"<", bytes(8)), array(b"-2", b"<", bytes(8)), array(b"99999999999 9", b"<", bytes(8))]
    bad += [array(b"2", b"x", bytes(8)), good[:-9]]
    if code == "f4":
        np.testing.assert_array_equal(unpickled(good), np.zeros(2, np.float32))
    else:
        bad.append(good)
    for text in bad:
        with pytest.raises(ValueError, match=r"."):
            unpickled(text)


def test_what_is_no_pickle(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_pickle(tmp_path / "none.pkl")
    for text in (b"", b"hello", pickle.dumps(VALUES)[:-20]):
        with pytest.raises(ValueError, match=r"."):
            unpickled(text)
    os.mkfifo(tmp_path / "a.pkl")
    for path in (tmp_path / "a.pkl", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"^{path} is not a regular file; copy what it gives into one"):
            read_pickle(path)


PAIR = b"(K\x01K\x02t"  # what is doubled 60 times is this
DOUBLED = b"2\x86" * 60
NUMPY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n"
DTYPE = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR"


def nested(depth, times=1):
    value: list[Any] = [1.5]
    for _ in range(depth - 1):
        value = [value] * times
    return value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (pickle.dumps(nested(60, times=2)), "it repeats its parts to many times its size; written without repetitions"),
        (PAIR + DOUBLED + b".", "it repeats its parts to many times its size"),
        (pickle.dumps([np.zeros(10_000)] * 1000), "it repeats its parts to many times its size"),
        (pickle.dumps(nested(100)), None),
        (pickle.dumps(nested(101)), "its lists or dicts lie more than 100 deep within each other"),
        (b"]" * 100_000 + b"a" * 99_999 + b".", "its lists or dicts lie more than 100 deep within each other"),
        (b"]2a.", "its lists or dicts lie more than 100 deep within each other"),  # within itself
        # Not printed, multiplied or compared: a shape, a byte order and a type that are such
        (NUMPY + PAIR + DOUBLED + DTYPE + b"I00\nS'x'\ntb.", "it holds an array without a valid shape"),
        (
            NUMPY + b"(I1\nt" + DTYPE + b"(I3\n" + PAIR + DOUBLED + b"NNNI-1\nI-1\nI0\ntbI00\nS'x'\ntb.",
            "which are not num",
        ),
        (NUMPY + b"(I1\ntcnumpy\ndtype\n(" + PAIR + DOUBLED + b"I0\nI1\ntRI00\nS'x'\ntb.", "which are not numbers"),
        (NUMPY + b"(" + b"I9999999\n" * 33 + b"t" + DTYPE + b"I00\nS'x'\ntb.", "an array without a valid shape"),
    ],
)
def test_what_unfolds_to_more_than_it_is(text, words):
    began = time.process_time()
    if words is None:
        unpickled(text)
    else:
        with pytest.raises(ValueError, match=words):
            unpickled(text)
    assert time.process_time() - began < 2


def test_parts_that_are_named_twice_are_not_read_twice():
    row = [1.5, 2.5]
    value = [[row, row], {"a": row}, (row, row)]
    assert unpickled(pickle.dumps(value)) == value
    high: list[object] = [nested(60)]
    high.append([nested(30), [high[0]]])  # known already where it would be too deep
    deep = [nested(90)]
    for _ in range(20):
        deep = [deep[0], [deep]]
    with pytest.raises(ValueError, match="more than 100 deep"):
        unpickled(pickle.dumps(deep))
    assert unpickled(pickle.dumps(high)) == high


def test_what_crashes_or_never_ends_is_one_error(tmp_path, monkeypatch):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"\x80\x02}(" + PAIR + DOUBLED + b"Nu.")  # a key: hashing it takes 2^60 steps
    monkeypatch.setattr(apart, "SECONDS", 3.0)
    with pytest.raises(
        ValueError, match=r"a\.pkl is not read: it cannot be read within 3 s; it is damaged, so copy it"
    ):
        read_pickle(path)
    monkeypatch.setattr(apart, "SECONDS", 60.0)
    path.write_bytes(b"\x80\x02}()" + b"\x85" * 1_000_000 + b"Nu.")  # Python's own hash has no limit on depth
    with pytest.raises(ValueError, match=r"it is damaged: reading it crashes the reader \(signal 11\); copy it again$"):
        read_pickle(path)
    path.write_bytes(b"\x80\x02Nr\xff\xff\xff\x7f.")  # the memo of so many places
    with pytest.raises(ValueError, match="it needs more than 4 GB to be read"):
        read_pickle(path)


def test_an_error_is_one_line_whatever_the_file_names(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04\x8c\x04a\nb\x1b\x8c\x01c\x93.")
    with pytest.raises(ValueError, match="is not read") as error:
        read_pickle(tmp_path / "a.pkl")
    assert str(error.value).endswith(
        "it asks for a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}.c, and only arrays and plain containers are"
        " admitted: a pickle can run code"
    )


def test_flipped_bytes():
    good = pickle.dumps(VALUES, 2)
    refused = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        text = bytearray(good)
        for place in rng.integers(len(text), size=rng.integers(1, 9)):
            text[place] = rng.integers(256)
        if b"r" in text or b"j" in text:  # LONG_BINPUT may ask for any memory: see above
            text = text.replace(b"r", b"q").replace(b"j", b"h")
        try:
            unpickled(bytes(text))
        except ValueError:
            refused += 1
    assert refused > 200
