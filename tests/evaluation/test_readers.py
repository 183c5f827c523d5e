"""Each reader on a folder made by hand."""

from pathlib import Path

import numpy as np
import pytest

from evaluation.data import Order, open_data
from evaluation.errors import EvaluationError, UsageError
from evaluation.items import Item, identity
from evaluation.names import ClassNames
from evaluation.readers import FORMATS, Source
from tests.evaluation.worlds import names, write_image, write_json, write_mask


def read(folder: Path, name: str, of: ClassNames | None = None) -> list[Item]:
    return list(FORMATS[name].read(Source(folder, of or names())))


def test_folders_are_classes(tmp_path: Path) -> None:
    """The first folder is the class, whatever lies deeper; other files don't count."""
    for place in ("ant/1.jpg", "ant/more/2.PNG", "n02/3.jpeg", "4.jpg"):
        write_image(tmp_path / place)
    (tmp_path / "ant" / "notes.txt").write_text("no image")
    items = read(tmp_path, "folders", names({"n02": (3, 4)}))
    assert {item.id: item.targets for item in items} == {
        "4.jpg": (),
        "ant/1.jpg": ((0,),),
        "ant/more/2.PNG": ((0,),),
        "n02/3.jpeg": ((3, 4),),
    }
    assert not any(item.regions for item in items)


VOC = """<annotation><size><width>6</width><height>4</height></size>
<object><name>bee</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object>
<object><name>person</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>4</ymax></bndbox></object>
<object><name>ant</name><bndbox><xmin>4</xmin><ymin>1</ymin><xmax>6</xmax><ymax>1</ymax></bndbox></object>
<object><name>bee</name><bndbox><xmin>6</xmin><ymin>4</ymin><xmax>6</xmax><ymax>4</ymax></bndbox></object>
</annotation>"""


def write_voc(folder: Path, place: str = "a") -> Path:
    path = folder / "Annotations" / f"{place}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(VOC)
    write_image(folder / "JPEGImages" / f"{place}.jpg")
    return folder


def test_voc_counts_from_one_and_its_last_pixel_belongs_to_the_box(tmp_path: Path) -> None:
    """Pixels 1 to 3 are [0, 3); classes are named once, in the order of the objects."""
    (item,) = read(write_voc(tmp_path), "voc")
    assert item.id == "a"
    assert item.image == tmp_path / "JPEGImages" / "a.jpg"
    assert item.targets == ((1,), (0,))
    assert [region.boxes for region in item.regions] == [((0, 1, 3, 4),), ((3, 0, 6, 1),), ((5, 3, 6, 4),)]
    assert item.unknown == ("person",)
    assert all(region.mask is None for region in item.regions)


def test_voc_masks_are_those_of_the_object(tmp_path: Path) -> None:
    """SegmentationObject numbers all objects, also those whose class the model lacks; 255 is nobody's."""
    write_voc(tmp_path)
    write_mask(tmp_path / "SegmentationObject" / "a.png", [[1, 255, 2, 3, 3, 3], *[[1, 0, 2, 2, 0, 4]] * 3])
    (item,) = read(tmp_path, "voc")
    masks = [region.mask.load() for region in item.regions if region.mask]
    assert [int(mask.sum()) for mask in masks] == [4, 3, 3]
    assert masks[1][0].tolist() == [False, False, False, True, True, True]


def test_voc_masks_of_classes_serve_where_there_are_none_of_objects(tmp_path: Path) -> None:
    """The values are VOC's own order of classes: 3 is the bird."""
    write_voc(tmp_path)
    path = tmp_path / "Annotations" / "a.xml"
    path.write_text(VOC.replace("<name>ant", "<name>bird"))
    write_mask(tmp_path / "SegmentationClass" / "a.png", [[3, 3, 0, 0, 2, 255]] * 4)
    (item,) = read(tmp_path, "voc", names({"bird": (4,)}))
    bird = next(region for region in item.regions if region.classes == (4,))
    assert bird.mask is not None
    assert bird.mask.load().sum() == 8
    assert all(region.mask is None for region in item.regions if region.classes != (4,))


def test_voc_follows_folders_as_imagenets_boxes_need(tmp_path: Path) -> None:
    """Annotations/n02/b.xml belongs to JPEGImages/n02/b.JPEG."""
    write_voc(tmp_path, "n02/b")
    (tmp_path / "JPEGImages" / "n02" / "b.jpg").rename(tmp_path / "JPEGImages" / "n02" / "b.JPEG")
    (item,) = read(tmp_path, "voc")
    assert item.id == "n02/b"
    assert item.image == tmp_path / "JPEGImages" / "n02" / "b.JPEG"


def test_a_file_that_is_no_voc_annotation_is_refused_by_name(tmp_path: Path) -> None:
    """Cut off, or without a number where one must be."""
    write_voc(tmp_path)
    for text in (VOC[:100], VOC.replace("<xmin>1</xmin>", ""), VOC.replace("<xmin>1", "<xmin>one")):
        (tmp_path / "Annotations" / "a.xml").write_text(text)
        with pytest.raises(UsageError, match=r"a\.xml"):
            read(tmp_path, "voc")


def write_coco(folder: Path, **changes: object) -> Path:
    square = {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]], "bbox": [1, 1, 2, 2], "iscrowd": 0}
    crowd = {"segmentation": {"size": [4, 6], "counts": [20, 4]}, "bbox": [5, 0, 1, 4], "iscrowd": 1}
    document = {
        "images": [{"id": 7, "file_name": "x.jpg", "width": 6, "height": 4}],
        "categories": [{"id": 18, "name": "bee"}, {"id": 44, "name": "bottle"}],
        "annotations": [
            {"image_id": 7, "category_id": 18, **square},
            {"image_id": 7, "category_id": 18, **crowd},
            {"image_id": 7, "category_id": 44, **square},
        ],
        **changes,
    }
    write_json(folder / "annotations" / "instances_val.json", document)
    write_image(folder / "val" / "x.jpg")
    return folder


def test_coco_boxes_have_a_corner_and_a_size(tmp_path: Path) -> None:
    """x, y, width, height; a crowd has pixels and no box; other categories are named."""
    (item,) = read(write_coco(tmp_path), "coco")
    assert (item.id, item.targets, item.unknown) == ("x.jpg", ((1,),), ("bottle",))
    assert item.image == tmp_path / "val" / "x.jpg"
    assert [region.boxes for region in item.regions] == [((1, 1, 3, 3),), ()]
    square, crowd = (region.mask.load() for region in item.regions if region.mask)
    assert np.argwhere(square).tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert np.argwhere(crowd).tolist() == [[0, 5], [1, 5], [2, 5], [3, 5]]


def test_coco_needs_one_file_of_the_right_form(tmp_path: Path) -> None:
    """Several files are not guessed at, and another form is refused by name."""
    write_coco(tmp_path, annotations=[{"image_id": 7}])
    with pytest.raises(UsageError, match="has not the form of COCO"):
        read(tmp_path, "coco")
    write_json(tmp_path / "annotations" / "instances_train.json", {})
    with pytest.raises(UsageError, match="--annotations FILE"):
        read(tmp_path, "coco")
    write_coco(tmp_path)
    given = tmp_path / "annotations" / "instances_val.json"
    assert len(list(FORMATS["coco"].read(Source(tmp_path, names(), given)))) == 1


def test_masks_in_pictures_are_of_whatever_is_explained(tmp_path: Path) -> None:
    """What is not 0 is the object, its box is tight around it; a folder below `images` is a class."""
    write_image(tmp_path / "images" / "a.jpg")
    write_mask(tmp_path / "masks" / "a.png", [[0] * 6, [0, 9, 255, 0, 0, 0], [0] * 6, [0] * 6])
    write_image(tmp_path / "images" / "bee" / "b.jpg")
    write_image(tmp_path / "images" / "wasp" / "c.jpg")
    plain, bee, wasp = read(tmp_path, "masks")
    (region,) = plain.regions
    assert (plain.targets, region.classes, region.boxes) == ((), None, None)
    assert region.mask is not None
    assert np.argwhere(region.mask.load()).tolist() == [[1, 1], [1, 2]]
    assert (bee.targets, bee.regions) == (((1,),), ())
    assert (wasp.targets, wasp.unknown) == ((), ("wasp",))


def test_a_mask_that_is_no_picture_is_refused_by_name(tmp_path: Path) -> None:
    """When it is read, not when the folder is."""
    write_image(tmp_path / "images" / "a.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_text("no picture")
    (item,) = read(tmp_path, "masks")
    mask = item.regions[0].mask
    assert mask is not None
    with pytest.raises(EvaluationError, match=r"a\.png"):
        mask.load()


CATALOGUE = [
    {
        "file": "in/a.jpg",
        "imagenet_classes": [0],
        "main_category": "ant hill",
        "boxes": [
            {"category": "ant hill", "box": [0.5, 1, 2, 3], "iscrowd": 0},
            {"category": "bee", "box": [1, 1, 2, 2], "iscrowd": 1},
            {"category": "bee", "box": [3, 0, 6, 2], "iscrowd": 0},
            {"category": "cup", "box": [0, 0, 1, 1], "iscrowd": 0},
        ],
        "masks": {"bee": {"file": "in/masks/a_bee.png", "imagenet_classes": [1, 2]}},
    },
    {"file": "b.jpg", "imagenet_classes": [3, 4], "boxes": None, "masks": None},
]


def test_a_catalogue_names_accepted_classes(tmp_path: Path) -> None:
    """Each category with known classes is a target; records without any have their own classes."""
    write_json(tmp_path / "images.json", CATALOGUE)
    first, second = read(tmp_path, "catalogue")
    assert (first.id, first.targets) == ("in/a.jpg", ((1, 2), (0,)))
    assert [(region.classes, region.boxes) for region in first.regions] == [
        ((1, 2), ((3, 0, 6, 2),)),
        ((0,), ((0.5, 1, 2, 3),)),
    ]
    assert first.regions[0].mask is not None
    assert first.regions[1].mask is None
    assert (second.targets, second.regions) == (((3, 4),), ())


def test_a_catalogue_for_another_model_is_refused(tmp_path: Path) -> None:
    """Class 5 of five classes is none, and a record without a file is no record."""
    write_json(tmp_path / "images.json", [{"file": "a.jpg", "imagenet_classes": [5]}])
    with pytest.raises(UsageError, match="does not have"):
        read(tmp_path, "catalogue")
    write_json(tmp_path / "images.json", [{"imagenet_classes": [0]}])
    with pytest.raises(UsageError, match="form of a catalogue"):
        read(tmp_path, "catalogue")


def test_digits_have_exact_ground_truth() -> None:
    """Two digits an image, their masks, and the tight boxes around them; the seed chooses others."""
    ten = ClassNames(tuple(map(str, range(10))))
    data = open_data(Order("digits", limit=3, seed=2), ten)
    assert [item.id for item in data.items] == ["digits-2-00000", "digits-2-00001", "digits-2-00002"]
    for item in data.items:
        assert len(item.targets) == len(item.regions) == 2
        for (target,), region in zip(item.targets, item.regions, strict=True):
            assert region.classes == (target,)
            assert region.mask is not None
            rows, columns = np.nonzero(region.mask.load())
            assert region.boxes == ((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1),)
    assert len(open_data(Order("digits-single", limit=2), ten).items[0].targets) == 1
    assert identity(data.items) != identity(open_data(Order("digits", limit=3, seed=3), ten).items)
    with pytest.raises(UsageError, match="no classes 0 to 9"):
        open_data(Order("digits"), names())


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_voc, "voc"),
        (write_coco, "coco"),
        (lambda folder: write_json(folder / "images.json", CATALOGUE), "catalogue"),
        (lambda folder: [write_image(folder / each / "ant" / "a.png") for each in ("images", "masks")], "masks"),
        (lambda folder: write_image(folder / "ant" / "a.png"), "folders"),
    ],
)
def test_a_folder_is_recognised(tmp_path: Path, write: object, name: str) -> None:
    """The layout says what it is; it can be named, too."""
    write(tmp_path)  # type: ignore[operator]
    assert open_data(Order(str(tmp_path)), names()).format == name
    assert open_data(Order(str(tmp_path), format=name), names()).format == name


def test_data_that_cannot_be_evaluated_is_refused(tmp_path: Path) -> None:
    """No folder, no images, an unknown format, classes that nobody knows, or none at all."""
    for order, message in [
        (Order(str(tmp_path / "none")), "no folder"),
        (Order(str(tmp_path)), "laid out"),
        (Order(str(tmp_path), format="zip"), "no format 'zip'"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_data(order, names())
    write_image(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="--target predicted"):
        open_data(Order(str(tmp_path)), names())
    assert len(open_data(Order(str(tmp_path), target="predicted"), names()).items) == 1
    write_image(tmp_path / "wasp" / "a.jpg")
    with pytest.raises(UsageError, match="'wasp'"):
        open_data(Order(str(tmp_path)), names())


def test_images_without_a_class_of_the_model_are_left_out_and_counted(tmp_path: Path) -> None:
    """Other objects are no mistake in COCO, as they would be in a folder of classes."""
    images = [{"id": number, "file_name": f"{number}.jpg", "width": 6, "height": 4} for number in range(3)]
    annotations = [
        {"image_id": 0, "category_id": 18, "bbox": [0, 0, 1, 1]},
        {"image_id": 1, "category_id": 44, "bbox": [0, 0, 1, 1]},
    ]
    write_coco(tmp_path, images=images, annotations=annotations)
    data = open_data(Order(str(tmp_path)), names())
    assert ([item.id for item in data.items], data.without_class, dict(data.unknown)) == (["0.jpg"], 2, {"bottle": 1})
    assert (data.has_boxes, data.has_masks) == (True, False)


def test_a_limit_draws_by_the_seed_and_keeps_the_order(tmp_path: Path) -> None:
    """The same seed draws the same images; another one draws others."""
    for number in range(9):
        write_image(tmp_path / "ant" / f"{number}.jpg")
    drawn = [
        [item.id for item in open_data(Order(str(tmp_path), limit=4, seed=seed), names()).items] for seed in (1, 1, 5)
    ]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert drawn[0] != drawn[2]
    assert len(drawn[2]) == 4


def test_the_identity_of_data_changes_with_what_is_evaluated(tmp_path: Path) -> None:
    """An image of another size, a box, a mask: each makes it other data; reading it again does not."""
    write_coco(tmp_path)

    def now() -> str:
        return identity(open_data(Order(str(tmp_path)), names()).items)

    seen = [now()]
    assert now() == seen[0]
    write_image(tmp_path / "val" / "x.jpg", width=60, height=40)
    seen.append(now())
    document = {"image_id": 7, "category_id": 18, "bbox": [1, 1, 2, 2]}
    write_coco(tmp_path, annotations=[document])
    seen.append(now())
    write_coco(tmp_path, annotations=[{**document, "bbox": [1, 1, 2, 3]}])
    seen.append(now())
    write_coco(tmp_path, annotations=[{**document, "segmentation": [[0, 0, 1, 0, 1, 1]]}])
    seen.append(now())
    assert len(set(seen)) == 5
