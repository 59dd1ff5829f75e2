"""Tables of boxes, as people and tools write them."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from rcnnkit.data.reading import read_data
from rcnnkit.data.records import BadData
from rcnnkit.data.tables import read_table

OPEN_IMAGES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg", "images/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    return tmp_path


def write(root: Path, *lines: str, name: str = "train.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n")
    return root / name


def problems(root: Path) -> list[str]:
    with pytest.raises(BadData) as error:
        read_data(root, "train")
    return [re.sub(rf"{root}/", "", str(problem)) for problem in error.value.problems]


@pytest.mark.parametrize(
    "lines",
    [
        ("image,x1,y1,x2,y2,class", "a.jpg,1,2,10.5,20,dog", "c.png,0,0,40,30,cat", "a.jpg,0,0,5,5,cat", "b.jpg,,,,,"),
        ("a.jpg,1,2,10.5,20,dog", "images/c.png,0,0,40,30,cat", "a.jpg,0,0,5,5,cat", "b.jpg,,,,,"),  # without names
        (
            "filename;width;height;class;xmin;ymin;xmax;ymax",
            "a.jpg;40;30;dog;1;2;10.5;20",
            r"C:\pictures\c.png;40;30;cat;0;0;40;30",
            "a.jpg;40;30;cat;0;0;5;5",
            "b.jpg;40;30",
        ),
        (
            "label,path,left,top,right,bottom",
            '"dog","a.jpg",1,2,10.5,20',
            "",
            "cat,images/c.png,0,0,40,30",
            "cat,a.jpg,0,0,5,5",
            ",b.jpg,,,,",
        ),
    ],
)
def test_columns_go_by_many_names(root: Path, lines: tuple[str, ...]) -> None:
    write(root, *lines)
    data = read_data(root, "train")
    assert (data.name, data.class_names, data.category_ids) == (f"{root.name}/train", ["cat", "dog"], [1, 2])
    a, c, b = data.records
    assert [record.path.relative_to(root).as_posix() for record in (a, c, b)] == ["a.jpg", "images/c.png", "b.jpg"]
    assert a.targets.boxes.tolist() == [[1, 2, 10.5, 20], [0, 0, 5, 5]]
    assert a.targets.labels.tolist() == [1, 0]
    assert c.targets.boxes.tolist() == [[0, 0, 40, 30]]
    assert len(b.targets) == 0


def test_open_images(root: Path) -> None:
    file = write(
        root,
        OPEN_IMAGES,
        "a,xclick,/m/01,1,0.25,0.5,0.1,0.9,0,0,0",
        "c,xclick,/m/02,1,0,1,0,1,0,0,1",
        name="train-annotations-bbox.csv",
    )
    write(root, "/m/01,Cat", '/m/02,"Dog, wild"', name="class-descriptions-boxable.csv")
    data, findings = read_table(file)
    assert (data.class_names, findings) == (["Cat", "Dog, wild"], [])
    a, c = data.records
    assert a.targets.boxes.tolist() == [pytest.approx([10, 3, 20, 27])]
    assert (c.targets.boxes.tolist(), c.targets.crowd.tolist()) == ([[0, 0, 40, 30]], [True])


def test_pictures_beside_a_folder_of_annotations(root: Path) -> None:
    (root / "annotations").mkdir()
    write(root, "image,x1,y1,x2,y2,class", "c.png,1,2,10,20,dog", name="annotations/train.csv")
    assert [record.path for record in read_data(root, "train").records] == [root / "images" / "c.png"]


def test_the_file_itself_and_other_pictures(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = write(tmp_path_factory.mktemp("elsewhere"), "image,x1,y1,x2,y2,class", "a.jpg,1,2,10,20,dog")
    with pytest.raises(
        FileNotFoundError, match=r"none of its 1 picture was found in .* give their folder as data\.images"
    ):
        read_data(file, "")
    assert len(read_data(file, "", images=root)) == 1


def test_what_is_wrong_is_reported_at_once(root: Path) -> None:
    (root / "others").mkdir()
    (root / "copies").mkdir()
    (root / "b.jpg").rename(root / "others" / "b.jpg")
    (root / "copies" / "b.jpg").write_bytes((root / "a.jpg").read_bytes())
    write(
        root,
        "image,x1,y1,x2,y2,class",
        "a.jpg,1,2,x,20,dog",
        "a.jpg,1,2,10,99,dog",
        "a.jpg,1,2,10,20,",
        ",1,2,10,20,dog",
        "b.jpg,1,2,10,20,dog",
        "z.jpg,1,2,10,20,dog",
        "c.png,1,2,10,20,dog",
    )
    assert problems(root) == [
        "train.csv: line 2: x1 1, y1 2, x2 x, y2 20: a corner is no number; correct it",
        "train.csv: line 4: its object has no class; add one, or delete the line",
        "train.csv: line 5: it names no picture; add one, or delete the line",
        "train.csv: line 6: picture b.jpg: it could be any of copies/b.jpg, others/b.jpg; correct its path",
        f"train.csv: line 7: picture z.jpg: it is not in {root}; correct its path",
        "train.csv: line 3: x1 1, y1 2, x2 10, y2 99 reaches 69 pixels beyond the lower edge of the picture, which is"
        " 40 wide and 30 high; correct the box or the size",
    ]
    assert [len(record.targets) for record in read_data(root, "train", skip_bad=True).records] == [0, 1]


def test_shares_where_pixels_belong(root: Path) -> None:
    write(root, "image,x1,y1,x2,y2,class", "a.jpg,0.1,0.2,0.5,0.9,dog", "b.jpg,0.1,0.2,0.5,0.9,dog")
    (problem,) = problems(root)
    assert problem.startswith("train.csv: 2 of 2 boxes are not in pixels: all four numbers lie between 0 and 1")


def test_classes_of_another_split(root: Path) -> None:
    file = write(root, "image,x1,y1,x2,y2,class", "a.jpg,1,2,10,20,dog", "b.jpg,1,2,10,20,emu")
    data, (problem,) = read_table(file, class_names=["cat", "dog"])
    assert data.records[0].targets.labels.tolist() == [1]
    assert problem.message == (
        "1 object of this class (the first is in line 3), which is not one of cat, dog; correct the name, or add it to"
        " data.class_names in settings"
    )


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("image,x1,y1,x2,y2",), "has no column for class among image, x1, y1, x2, y2; name the columns"),
        (("picture,a,b", "a.jpg,1,2"), "has no column for image, x1, y1, x2, y2, class among picture, a, b"),
        (("image,x1,y1,x2,y2,class",), "has no row; write one for each object: image,x1,y1,x2,y2,class"),
        (("",), "has no column for image"),
    ],
)
def test_tables_that_are_none(root: Path, lines: tuple[str, ...], message: str) -> None:
    write(root, *lines)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_data(root, "train")


def test_text_of_another_encoding(root: Path) -> None:
    (root / "train.csv").write_bytes("image,x1,y1,x2,y2,class\na.jpg,1,2,10,20,Löwe\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.csv is not UTF-8 text .*; save it as UTF-8"):
        read_data(root, "train")


def test_parquet(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    columns = {"label": ["dog", None, "cat"], "filename": ["a.jpg", "b.jpg", "c.png"], "xmin": [1, None, 0], "size": 1}
    corners = {"ymin": [2.5, None, 0], "xmax": [10.5, None, 40], "ymax": [20, None, 30]}
    pandas.DataFrame(columns | corners).to_parquet(root / "train.parquet")
    data = read_data(root, "train")
    assert {record.path.name: record.targets.boxes.tolist() for record in data.records} == {
        "a.jpg": [[1, 2.5, 10.5, 20]],
        "b.jpg": [],
        "c.png": [[0, 0, 40, 30]],
    }
    assert data.class_names == ["cat", "dog"]
    pandas.DataFrame(columns | corners | {"xmax": [10.5, None, 99]}).to_parquet(root / "train.parquet")
    assert problems(root)[0].startswith("train.parquet: row 2: x1 0.0, y1 0.0, x2 99.0, y2 30.0 reaches 59 pixels")
    (root / "train.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"train\.parquet is not a Parquet file \(.*\); write it again"):
        read_data(root, "train")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ValueError, match=r"are read with pyarrow; pip install 'rcnnkit\[parquet\]'"):
        read_data(root, "train")


def test_decimal_commas(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(root, "image;x1;y1;x2;y2;class", "a.jpg;1,5;2;10,25; 20 ;dog", "b.jpg;;;;;", 'c.png;1,125;2,5;"9,0";3;cat')
    data = read_data(root, "train")
    boxes = [record.targets.boxes.tolist() for record in data.records]
    assert boxes == [[[1.5, 2, 10.25, 20]], [], [[1.125, 2.5, 9, 3]]]
    assert "decimal commas (2 times); the first: " in caplog.text
    assert "train.csv: line 2: x1 1,5 is read as 1.5" in caplog.text
    write(root, "a.jpg;1,5;2,5;10,25;20,5;dog")  # without names
    assert read_data(root, "train").records[0].targets.boxes.tolist() == [[1.5, 2.5, 10.25, 20.5]]


@pytest.mark.parametrize("box", ["1,125;2;3,250;4", "1.5;2,5;10;20", "1;2,5,1;10;20"])
def test_commas_that_may_be_anything(root: Path, box: str) -> None:
    """1,125 is 1125 to some and 1.125 to others."""
    write(root, "image;x1;y1;x2;y2;class", f"a.jpg;{box};dog")
    (problem,) = problems(root)
    assert problem.endswith("a corner is no number; write decimals with a point, and thousands without a comma")
