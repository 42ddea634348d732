"""Pseudo labels: ground, edges, doubts, the simulator's truth, shards, resuming."""

import csv

import cv2
import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError, FrameError
from cropseg_edge.simulator import FieldSimulator
from training.commands.pseudo_label import pseudo_label as command
from training.data.fields import find_set
from training.pseudo_labels.degradation import NONE, STEREO, Degradation, degrade_depth
from training.pseudo_labels.depth_files import write_depth
from training.pseudo_labels.depth_labels import DepthLabelling, make_labels
from training.pseudo_labels.distribution import otsu
from training.pseudo_labels.ground import fit_ground
from training.pseudo_labels.guided_filter import guided_filter
from training.pseudo_labels.label import pseudo_label
from training.pseudo_labels.worklist import Worklist, find_images

H, W, F = 120, 160, 150.0


def seen_from(pitch, roll, plants, tall=0.3):
    """Depth [H, W] from 1 m above ground, and where plants of height `tall` (camera heights) are.

    Pitch and roll are the camera's tilt away from straight down, radians.
    """
    y, x = np.indices((H, W), dtype=np.float64)
    ray = np.stack([(x - W / 2) / F, (y - H / 2) / F, np.ones((H, W))], -1)
    down = np.array([np.sin(roll), np.sin(pitch), np.cos(pitch) * np.cos(roll)])
    ground = 1 / (ray @ down)
    rng = np.random.default_rng(3)
    blocks = cv2.resize(rng.random((12, 16)), (W, H), interpolation=cv2.INTER_NEAREST) < plants
    noise = 1 + 0.004 * rng.standard_normal((H, W))
    return (ground * np.where(blocks, 1 - tall, 1) * noise).astype(np.float32), blocks


@pytest.mark.parametrize("plants", [0.05, 0.4, 0.7])
@pytest.mark.parametrize(("pitch", "roll"), [(0, 0), (0.5, 0), (-0.3, 0.25), (0.8, 0.1)])
def test_heights_stand_on_the_ground_of_a_tilted_camera(pitch, roll, plants):
    depth, blocks = seen_from(pitch, roll, plants)
    height = fit_ground(depth).height
    assert abs(np.median(height[~blocks])) < 0.01
    assert abs(np.median(height[blocks]) - 0.3) < 0.01


def test_ground_survives_scale_and_shift_of_inverse_depth_and_holes():
    depth, blocks = seen_from(0.5, 0.1, 0.4)
    relative = (1 / (3.0 / depth + 0.4)).astype(np.float32)
    relative[20:50, 30:90] = np.nan
    height = fit_ground(relative).height
    assert np.isnan(height[20:50, 30:90]).all()
    assert np.nanpercentile(height[blocks], 5) > np.nanpercentile(height[~blocks], 95) + 0.1


def test_sky_has_no_height():
    depth, _ = seen_from(0.5, 0, 0.3)
    depth[:30] = 1000.0
    assert np.isfinite(fit_ground(depth).height[40:]).all()


def test_a_split_between_two_peaks_separates_and_one_peak_does_not():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.1, 0.03, 7000), rng.normal(0.8, 0.1, 3000)
    two = otsu(np.concatenate([low, high]).astype(np.float32))
    one = otsu(rng.normal(0.1, 0.03, 9000).astype(np.float32))
    assert 0.2 < two.threshold < 0.6
    assert two.separation > 0.9 > 0.75 > one.separation
    assert abs(two.low - 0.1) < 0.02
    assert abs(two.high - 0.8) < 0.02


def test_a_constant_distribution_splits_into_nothing():
    assert otsu(np.full(100, 0.5, np.float32)).separation < 0.01


def test_guided_filter_moves_an_edge_to_the_pictures():
    image = np.full((60, 80, 3), (40, 60, 90), np.uint8)
    image[:, 40:] = (60, 140, 70)
    wrong = np.zeros((60, 80), np.float32)
    wrong[:, 44:] = 1  # four pixels off
    out = guided_filter(image, wrong, 12, 1e-4)
    assert (out[10:50, 40:] > 0.5).all()
    assert (out[10:50, :40] < 0.5).all()


def test_guided_filter_without_edges_is_a_mean_and_ignores_what_has_no_weight():
    image = np.full((40, 40, 3), 100, np.uint8)
    values = np.where(np.arange(40) < 20, 0.2, 0.8).repeat(40).reshape(40, 40).T
    weight = (values < 0.5).astype(np.float32)
    out = guided_filter(image, values.astype(np.float32), 3, 1e-3, weight)
    np.testing.assert_allclose(out[:, :21], 0.2, atol=1e-4)


# What the method reaches on these fields, less a margin; degraded depth alone gives far less.
FIELDS = [
    ("soybean", "dusk", "nadir", 16, 0.88),
    ("peanut", "shade", "nadir", 19, 0.85),
    ("carrot", "dusk", "nadir", 28, 0.9),
    ("maize", "dusk", "oblique", 2, 0.6),
]


@pytest.fixture(scope="module")
def fields():
    return {
        field[:4]: FieldSimulator(*field[:3], seed=field[3], width=480, height=360).render(0)
        for field in FIELDS
    }


def iou(mask, labels):
    sure, truth = mask != 255, labels > 0
    return (sure & truth & (mask == 3)).sum() / (sure & (truth | (mask == 3))).sum()


@pytest.mark.parametrize("how", [NONE, Degradation(), STEREO], ids=["true", "monocular", "stereo"])
@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f"{f[0]}-{f[2]}")
def test_labels_are_near_the_simulators_truth(fields, field, how):
    frame = fields[field[:4]]
    depth = degrade_depth(frame.depth_m, how, np.random.default_rng(0))
    label = pseudo_label(frame.image, depth)
    assert set(np.unique(label.mask)) <= {0, 3, 255}
    assert iou(label.mask, frame.labels) > field[4]
    assert label.parts["sure"] > 0.75
    assert 0 < label.score < 1


def test_cleaning_with_the_picture_beats_heights_alone(fields):
    frame = fields[FIELDS[1][:4]]
    depth = degrade_depth(frame.depth_m, Degradation(), np.random.default_rng(0))
    height = fit_ground(depth).height
    alone = max(iou((height > t).astype(np.uint8), frame.labels) for t in np.arange(0, 0.05, 0.002))
    assert iou(pseudo_label(frame.image, depth).mask, frame.labels) > alone + 0.1


def test_a_picture_that_does_not_separate_says_so():
    rng = np.random.default_rng(0)
    soil = rng.normal(90, 12, (H, W, 3)).clip(0, 255).astype(np.uint8)
    depth, _ = seen_from(0.4, 0, 0)
    label = pseudo_label(soil, depth)
    assert "is needed" in label.reason


def test_a_large_picture_gets_a_mask_of_its_own_size(fields):
    frame = fields[FIELDS[0][:4]]
    image = cv2.resize(frame.image, (1441, 1081))
    depth = cv2.resize(frame.depth_m, (1441, 1081))
    mask = pseudo_label(image, depth).mask
    assert mask.shape == (1081, 1441)
    truth = cv2.resize(frame.labels, (1441, 1081), interpolation=cv2.INTER_NEAREST)
    assert iou(mask, truth) > 0.85


@pytest.fixture
def pool(tmp_path):
    """Seven pictures of plants with depth; one has none, one is bare soil."""
    rng = np.random.default_rng(1)
    images, depths = tmp_path / "images", tmp_path / "depth"
    images.mkdir()
    depths.mkdir()
    for i in range(7):
        depth, blocks = seen_from(0.3, 0, 0 if i == 5 else 0.3)
        image = np.where(blocks[..., None], (50, 150, 60), (60, 80, 110))
        image = (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(images / f"p{i}.png"), image)
        if i != 6:
            write_depth(depths / f"p{i}.tif", depth)
    return DepthLabelling(images=images, depth=depths, licence="MIT")


def as_rank(monkeypatch, rank, world):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))


def read_scores(out):
    with (out / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_labels_become_a_root_that_trains(pool, tmp_path):
    out = tmp_path / "root" / "pool"
    arguments = [str(pool.images), "--depth", str(pool.depth), "--out", str(out)]
    result = CliRunner().invoke(command, [*arguments, "--licence", "MIT"])
    assert result.exit_code == 0, result.output
    status = {row["stem"]: row["status"] for row in read_scores(out)}
    assert status == {f"p{i}": "refused" if i > 4 else "ok" for i in range(7)}
    assert "no depth" in read_scores(out)[6]["reason"]
    found = find_set([tmp_path / "root"], "pool", "train")
    assert list(found.pairs) == ["p0", "p1", "p2", "p3", "p4"]
    image, sets = found.read("p0")
    assert image.shape == (H, W, 3)
    _, blocks = seen_from(0.3, 0, 0.3)
    assert set(np.unique(sets)) <= {0, 1, 6}
    assert ((sets == 6) == blocks)[sets > 0].mean() > 0.98


def test_another_set_joins_the_root_and_a_strangers_root_is_left_alone(pool, tmp_path):
    make_labels(pool, tmp_path / "root" / "a")
    make_labels(pool, tmp_path / "root" / "b")
    assert len(find_set([tmp_path / "root"], "a", "train").pairs) == 5
    assert len(find_set([tmp_path / "root"], "b", "train").pairs) == 5
    (tmp_path / "field").mkdir()
    (tmp_path / "field" / "datasets.yaml").write_text("peanut: {licence: MIT, labels: {}}\n")
    with pytest.raises(ConfigError, match="root of other labels"):
        make_labels(pool, tmp_path / "field" / "a")
    (tmp_path / "root" / "screen.yaml").touch()
    with pytest.raises(ConfigError, match="what `screen` chose"):
        make_labels(pool, tmp_path / "root" / "a")


def test_masks_that_somebody_drew_are_never_replaced(pool):
    drawn = pool.images.parent / "masks" / "p0.png"
    drawn.parent.mkdir()
    drawn.write_bytes(b"drawn by hand")
    with pytest.raises(ConfigError, match="holds masks that this command did not make"):
        make_labels(pool, pool.images.parent)
    assert drawn.read_bytes() == b"drawn by hand"
    assert not (pool.images.parent / "parts").exists()


@pytest.fixture
def source(pool):
    """A data root around the pool: p0 to train on, p1 unlabelled, p2 for evaluation, the others
    in no split. Gives the set's configuration and what to write as its description."""
    root = pool.images.parent / "field"
    (root / "beet").mkdir(parents=True)
    pool.images.rename(root / "beet" / "images")
    rows = "beet,p0,train\nbeet,p1,unlabelled\nbeet,p2,dev\n"
    (root / "splits.csv").write_text(f"dataset,stem,split\n{rows}")

    def described(**entry):
        (root / "datasets.yaml").write_text(yaml.safe_dump({"beet": {"labels": {}, **entry}}))
        return DepthLabelling(images=root / "beet" / "images", depth=pool.depth)

    return described


@pytest.mark.parametrize("folder", ["beet", "beet/images"])
def test_pictures_that_are_kept_for_evaluation_get_no_labels(source, tmp_path, folder):
    config = source(licence="ODbL-1.0", species=["beet", "chard"])
    pictures, out = config.images.parents[1] / folder, tmp_path / "root" / "a"
    arguments = [str(pictures), "--depth", str(config.depth), "--out", str(out)]
    CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert [row["stem"] for row in read_scores(out)] == ["p0", "p1"]
    assert list(find_set([out.parent], "a", "train").pairs) == ["p0", "p1"]
    described = yaml.safe_load((out.parent / "datasets.yaml").read_text())["a"]
    assert (described["licence"], described["species"]) == ("ODbL-1.0", ["beet", "chard"])


def test_a_licence_that_is_given_stands(source, tmp_path):
    given = source(licence="ODbL-1.0").model_copy(update={"licence": "MIT"})
    make_labels(given, tmp_path / "root" / "a")
    assert find_set([tmp_path / "root"], "a", "train").licence == "MIT"


@pytest.mark.parametrize(
    ("entry", "split", "message"),
    [
        ({"train": False, "licence": "non-commercial"}, "train", "beet is for evaluation only"),
        ({}, "dev", "none of its pictures in split train or unlabelled"),
    ],
)
def test_a_set_that_may_not_be_trained_on_gets_no_labels(source, tmp_path, entry, split, message):
    config = source(**entry)
    (config.images.parents[1] / "splits.csv").write_text(f"dataset,stem,split\nbeet,p0,{split}\n")
    with pytest.raises(FrameError, match=message):
        make_labels(config, tmp_path / "root" / "a")


def test_a_name_with_a_comma_stays_one_name(pool, tmp_path):
    for folder, suffix in ((pool.images, "png"), (pool.depth, "tif")):
        (folder / f"p0.{suffix}").rename(folder / f"p0, row 3.{suffix}")
    for name in ("a", "b"):  # the second one writes the first one's rows again
        make_labels(pool, tmp_path / "root" / name)
    assert "p0, row 3" in find_set([tmp_path / "root"], "a", "train").pairs


class Killed(BaseException):
    pass


def stop_after(count):
    def progress(done, total):
        if done == count:
            raise Killed

    return progress


def test_a_killed_run_resumes_and_does_no_picture_twice(pool, tmp_path, monkeypatch):
    out = tmp_path / "root" / "pool"
    with pytest.raises(Killed):
        make_labels(pool, out, stop_after(3))
    assert not (out / "scores.csv").exists()
    done = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    part = next((out / "parts").iterdir())
    part.write_text(part.read_text() + "p3,ok,,0.")  # killed in the middle of a row
    as_rank(monkeypatch, 0, 2)  # and taken up by two processes
    seen = []
    assert make_labels(pool, out, lambda *step: seen.append(step)) is None
    as_rank(monkeypatch, 1, 2)
    rows = make_labels(pool, out, lambda *step: seen.append(step))
    assert len(seen) == 4
    assert [row["stem"] for row in rows] == [f"p{i}" for i in range(7)]
    after = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    assert done.items() <= after.items()
    monkeypatch.delenv("RANK")
    monkeypatch.delenv("WORLD_SIZE")
    make_labels(pool, out)
    assert done.items() <= {p.name: p.stat().st_mtime_ns for p in (out / "masks").iterdir()}.items()
    make_labels(pool, tmp_path / "once" / "pool")
    assert read_scores(tmp_path / "once" / "pool") == read_scores(out)


def test_processes_share_the_pictures_without_overlap(pool, tmp_path, monkeypatch):
    out, shares = tmp_path / "root" / "pool", []
    for rank in range(3):
        as_rank(monkeypatch, rank, 3)
        make_labels(pool, out)
        with (out / "parts" / f"scores.{rank}-3.csv").open() as file:
            shares.append([row["stem"] for row in csv.DictReader(file)])
    assert shares == [["p0", "p3", "p6"], ["p1", "p4"], ["p2", "p5"]]
    assert len(read_scores(out)) == 7


def test_a_refused_picture_is_tried_again_and_no_other(pool, tmp_path, monkeypatch):
    out, seen = tmp_path / "root" / "pool", []
    as_rank(monkeypatch, 0, 1)
    make_labels(pool, out)
    write_depth(pool.depth / "p6.tif", seen_from(0.3, 0, 0.3)[0])
    before = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    rows = make_labels(pool, out, lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]  # p5, whose picture is still bare soil, and p6
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["refused", "ok"]
    assert "p6" in find_set([out.parent], "pool", "train").pairs
    after = {path.name: path.stat().st_mtime_ns for path in (out / "masks").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"p5.png", "p6.png"}


def test_the_table_waits_for_a_picture_that_another_process_tries_again(tmp_path, monkeypatch):
    def process(rank, world):
        as_rank(monkeypatch, rank, world)
        return Worklist(tmp_path, "table.csv", ("status",), ["a", "b"], "")

    def statuses(rows):
        return [row["status"] for row in rows]

    one, two = process(0, 2), process(1, 2)
    for work, stem in ((one, "a"), (two, "b")):
        assert work.pending() == [stem]
        work.record(stem, {"status": "refused"})
    assert statuses(two.merge()) == ["refused", "refused"]
    assert one.pending() == ["a"]
    assert two.pending() == ["b"]
    two.record("b", {"status": "ok"})
    assert two.merge() is None  # a is at work
    alone = process(0, 1)  # both were killed
    assert alone.pending() == ["a"]
    alone.record("a", {"status": "ok"})
    assert statuses(alone.merge()) == ["ok", "ok"]


def test_other_settings_do_not_mix_into_a_run(pool, tmp_path):
    make_labels(pool, tmp_path / "root" / "pool")
    with pytest.raises(ConfigError, match="differs"):
        make_labels(pool.model_copy(update={"margin": 0.1}), tmp_path / "root" / "pool")


def test_two_pictures_of_one_stem_are_refused(pool):
    (pool.images / "p0.jpg").write_bytes((pool.images / "p1.png").read_bytes())
    with pytest.raises(ConfigError, match="share a stem"):
        find_images(pool.images)


def test_labels_of_an_earlier_version_are_not_mixed_with_new_ones(pool, tmp_path):
    out = tmp_path / "root" / "pool"
    make_labels(pool, out)
    table = out.parent / "datasets.yaml"
    described = yaml.safe_load(table.read_text())
    described["pool"]["labels"] = {0: ["background"], 1: ["crop", "weed"]}
    table.write_text(yaml.safe_dump(described))
    before = table.read_bytes()
    with pytest.raises(ConfigError, match=r"of an earlier version.*another --out"):
        make_labels(pool, out)
    assert table.read_bytes() == before

    table.unlink()  # as after a run that was killed before its table
    settings = yaml.safe_load((out / "config.yaml").read_text())
    (out / "config.yaml").write_text(yaml.safe_dump({**settings, "labels": {0: ["background"]}}))
    with pytest.raises(ConfigError, match="differs from this run"):
        make_labels(pool, out)


def test_labels_of_two_different_depths_are_not_mixed(pool, tmp_path):
    out, settings = tmp_path / "root" / "pool", pool.depth / "config.yaml"
    settings.write_text("degrade: 0.0\n")
    make_labels(pool, out)
    make_labels(pool, out)
    settings.write_text("degrade: 3.0\n")
    with pytest.raises(ConfigError, match="differs from this run"):
        make_labels(pool, out)
