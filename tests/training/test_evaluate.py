"""`evaluate`: figures, intervals, conditions, baselines, tables and page."""

import base64
import csv
import json
import resource
import shutil
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError, FrameError, StorageError
from cropseg_edge.evaluation import evaluate_pairs
from cropseg_edge.labelled import read_root
from training.commands.evaluate import evaluate as command
from training.config import load_config
from training.evaluation import colour_indices
from training.evaluation.evaluate import evaluate
from training.evaluation.methods import Method, distinct, open_baseline, open_model
from training.evaluation.page import chosen
from training.evaluation.pictures import read_pictures
from training.evaluation.report import EvaluateConfig, run
from training.train import train


@pytest.fixture(scope="module")
def root(field_root, tmp_path_factory):
    """The field root with a stated condition on half of `complete`, and `open` never trained."""
    root = tmp_path_factory.mktemp("evaluated") / "root"
    shutil.copytree(field_root, root)
    rows = list(csv.DictReader((root / "splits.csv").open()))
    for row in rows:
        stated = row["dataset"] == "complete" and int(row["stem"][1:]) < 5
        row["condition"], row["split"] = ("dusk" if stated else ""), "dev"
    with (root / "splits.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    tables = yaml.safe_load((root / "datasets.yaml").read_text())
    tables["complete"] |= {"species": "beet", "boundaries": "loose"}
    tables["open"]["train"] = False
    (root / "datasets.yaml").write_text(yaml.safe_dump(tables))
    return root


def green(image):
    return np.asarray(image[..., 1] > 130, np.uint8)


def nothing(image):
    return np.zeros(image.shape[:2], np.uint8)


OURS, BLIND = Method("ours", "a", green), Method("blind", "b", nothing)


@pytest.fixture(scope="module")
def found(root, tmp_path_factory):
    out = tmp_path_factory.mktemp("results")
    return evaluate(read_pictures(root, "dev"), [OURS, BLIND], out, resamples=200)


def test_figures_are_those_of_cropseg_eval(root, found):
    for name, pairs in read_root(root, "dev").items():
        expected = evaluate_pairs(green, pairs)
        for key, value in expected.items():
            reading, _, figure = key.partition(".")
            if figure:
                got = found.results["datasets"][name][reading]["ours"][figure][0]
                assert got == pytest.approx(value, abs=2e-3)
        assert found.results["datasets"][name]["images"] == expected["images"]


def test_a_reading_that_the_labels_leave_open_is_left_out(found):
    assert "vegetation" not in found.results["datasets"]["open"]
    assert set(found.results["datasets"]["open"]["crop"]) == {"ours", "blind"}


def test_conditions_group_the_pictures(found):
    held = found.results["conditions"]
    assert held["dusk"]["images"] == 5
    assert held["unseen species"]["images"] == 8
    assert found.results["datasets"]["open"]["unseen"]
    assert found.results["datasets"]["complete"]["loose_boundaries"]
    assert {p.species for p in found.root.pictures} == {"beet", ""}


def test_sets_that_the_model_was_not_trained_on_are_unseen(root, tmp_path):
    model = Method("m", "a", green, trained_on=frozenset({"open"}))
    got = evaluate(read_pictures(root, "dev"), [model], tmp_path, resamples=10)
    assert got.results["conditions"]["unseen species"]["images"] == 16


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(root, tmp_path):
    pictures, seen = read_pictures(root, "dev"), []

    def dies(image):
        if len(seen) == 5:
            raise KeyboardInterrupt
        return counting(image)

    def counting(image):
        seen.append(1)
        return green(image)

    with pytest.raises(KeyboardInterrupt):
        evaluate(pictures, [Method("m", "k", dies)], tmp_path, resamples=10)
    (file,) = (f for f in (tmp_path / "counts").iterdir() if not f.name.startswith("pictures"))
    file.write_text(file.read_text() + '["complete/p7", "half a li')
    evaluate(pictures, [Method("m", "k", counting)], tmp_path, resamples=10)
    assert len(seen) == 16
    evaluate(pictures, [Method("m", "other key", counting)], tmp_path, resamples=10)
    assert len(seen) == 32


def test_on_a_full_disk_what_was_counted_is_kept(root, tmp_path):
    pictures, seen, limited = read_pictures(root, "dev"), [], []

    def filling(image):
        seen.append(1)
        if len(seen) == 5 and not limited:
            limited.append(1)
            size = max(f.stat().st_size for f in (tmp_path / "counts").iterdir())
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, limits[1]))
        return green(image)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    method = Method("m", "k", filling)
    try:
        with pytest.raises(StorageError, match=r"counts.*cannot be written.*make room"):
            evaluate(pictures, [method], tmp_path, resamples=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    counted = len(seen) - 1  # the last one was lost
    assert counted >= 4
    seen.clear()
    evaluate(pictures, [Method("m", "k", filling)], tmp_path, resamples=10)
    assert len(seen) == 16 - counted


def test_a_mask_that_changed_is_counted_again(root, tmp_path):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    before = evaluate(read_pictures(copy, "dev"), [OURS], tmp_path, resamples=10)
    cv2.imwrite(str(copy / "complete/masks/p0.png"), np.ones((64, 96), np.uint8))
    after = evaluate(read_pictures(copy, "dev"), [OURS], tmp_path, resamples=10)
    same = (before.counts["ours"]["crop"] == after.counts["ours"]["crop"]).all(axis=1)
    assert not same[0]
    assert same[1:].all()


@pytest.fixture(scope="module")
def checkpoint(config_file, tmp_path_factory):
    frame = "data.frame=[192, 128]"  # nano's trunk sees half of it
    return train(load_config(config_file, ("steps=1", frame)), tmp_path_factory.mktemp("run"))


def test_a_checkpoint_predicts_as_the_robot_does(checkpoint, root):
    from cropseg_edge.fade import decode
    from cropseg_edge.letterbox import Affine
    from training.checkpoint import load_model
    from training.export import reference_probabilities

    ours = open_model(checkpoint, threads=1)
    assert ours.trained_on == {"complete", "open"}
    for picture in read_pictures(root, "dev").pictures[:3]:  # 96x64
        image = cv2.imread(str(picture.pair.image))
        grid = reference_probabilities(load_model(checkpoint)[0], image)
        assert grid.shape == (3, 64, 96)  # with sub-pixels, as fine as the picture
        same = Affine(1, 0, 1, 0)
        np.testing.assert_array_equal(ours.segment(image), decode(grid, same, 64, 96).labels)
    assert ours.segment(np.zeros((31, 77, 3), np.uint8)).shape == (31, 77)


def test_a_method_named_twice_is_refused_unless_it_is_the_same():
    assert distinct([OURS, OURS, BLIND]) == [OURS, BLIND]
    with pytest.raises(ConfigError, match="several methods are called ours"):
        distinct([OURS, Method("ours", "c", nothing)])


@pytest.mark.parametrize("spec", ["ndvi", "exg=1", "segformer", "checkpoint", "sam="])
def test_an_unknown_baseline_is_refused(spec):
    with pytest.raises(ConfigError, match="--baseline must be exg, hsv"):
        open_baseline(spec, device="cpu", threads=1, segformer_labels={})


def test_best_median_and_worst_are_chosen_by_set(found):
    scores = found.picture_miou("ours", "vegetation")
    (name, ranked), (other, _) = chosen(found)
    assert (name, other) == ("complete", "open")
    values = [scores[number] for rank, number in ranked]
    assert values == sorted(values, reverse=True)
    own = [s for s, p in zip(scores, found.root.pictures, strict=True) if p.dataset == name]
    assert (values[0], values[-1]) == (max(own), min(own))


class Page(HTMLParser):
    """Images and the addresses that a page would load."""

    def __init__(self, text):
        super().__init__()
        self.images, self.outside = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("src", "href"):
                (self.images if value.startswith("data:image/jpeg") else self.outside).append(value)


@pytest.fixture(scope="module")
def written(root, tiny_bundle_path, tmp_path_factory):
    out = tmp_path_factory.mktemp("command") / "out"
    arguments = [root, "--model", tiny_bundle_path, "--out", out, "--baseline", "exg",
                 "--baseline", "hsv", "--resamples", "50", "--threads", "1"]  # fmt: skip
    result = CliRunner().invoke(command, list(map(str, arguments)), catch_exceptions=False)
    assert result.exit_code == 0
    return out, result.output


def test_the_command_writes_tables_that_agree(written):
    out, printed = written
    document = json.loads((out / "evaluation.json").read_text())
    assert [m["name"] for m in document["methods"]] == ["tiny", *colour_indices.INDICES]
    value, low, high = document["results"]["datasets"]["complete"]["crop"]["tiny"]["miou"]
    text = (out / "evaluation.md").read_text()
    assert f"| complete (unseen) | 8 | tiny | {value:.2f} [{low:.2f}, {high:.2f}] |" in text
    assert text in printed
    flat = json.loads((out / "metrics.json").read_text())
    assert flat["datasets"]["complete"]["crop.miou"] == value
    rows = list(csv.DictReader((out / "pictures.csv").open()))
    assert len(rows) == 16
    assert rows[0]["conditions"].startswith("dusk")
    assert yaml.safe_load((out / "config.yaml").read_text())["baselines"] == ["exg", "hsv"]
    assert "16 pictures counted" in (out / "evaluate.log").read_text()


def test_the_metrics_can_go_into_a_bundle(written):
    from training.export import read_metrics

    assert read_metrics(written[0] / "metrics.json")["complete"]["images"] == 8


def test_the_page_holds_everything_itself(written):
    page = Page((written[0] / "evaluation.html").read_text())
    assert page.outside == []
    assert len(page.images) == 4 * 6
    for uri in page.images[:4]:
        data = np.frombuffer(base64.b64decode(uri.partition(",")[2]), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("file", "content", "error"),
    [
        ("complete/images/p1.jpg", b"no picture", r"p1\.jpg"),
        ("complete/masks/p1.png", cv2.imencode(".png", np.zeros((5, 5)))[1].tobytes(), "5x5"),
        ("complete/masks/p1.png", None, r"p1\.png"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(
    root, tiny_bundle_path, tmp_path, file, content, error
):
    copy = tmp_path / "root"
    shutil.copytree(root, copy)
    (copy / file).unlink()
    if content is not None:
        (copy / file).write_bytes(content)
    config = EvaluateConfig(root=copy, model=tiny_bundle_path, out=tmp_path / "out", threads=1)
    with pytest.raises(FrameError, match=error):
        run(config)


def test_an_empty_split_and_an_unknown_set_are_refused(root):
    with pytest.raises(ConfigError, match="nothing in split 'test'"):
        read_pictures(root, "test")
    with pytest.raises(ConfigError, match="no labelled set"):
        read_pictures(root, "dev", ["oats"])
