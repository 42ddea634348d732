"""Screening: which labels are kept, why the others are not, and what a person's decisions do."""

import errno
import json
import re

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from cropseg_edge.errors import ConfigError, StorageError
from training.__main__ import cli
from training.data.fields import find_set
from training.pseudo_labels.explorer import paint_depth, read_depth
from training.pseudo_labels.screen_run import ScreenOptions, run_screen
from training.pseudo_labels.traits import agreement, hash_signs, light, perceptual_hash

GOOD = [f"good{i}" for i in range(6)]


@pytest.fixture
def screen(label_folder, tmp_path):
    """Screens the folder into `out`; gives stem to (verdict, reason) and the summary."""

    def run(**options):
        options = {"labels": label_folder, "out": tmp_path / "out", "page_images": 0} | options
        lines = run_screen(ScreenOptions.checked(**options))
        read = json.loads((tmp_path / "out" / "decisions.json").read_text())
        summary = json.loads((tmp_path / "out" / "screening.json").read_text())
        verdicts = {d["stem"]: (d["verdict"], d["reason"]) for d in read["decisions"]}
        return verdicts, summary, lines

    return run


def kept(verdicts):
    return sorted(stem for stem, (verdict, _) in verdicts.items() if verdict == "accept")


@pytest.fixture
def decisions_file(tmp_path, screen):
    """Writes a decisions file as the page saves it, of verdicts by stem."""
    screen()
    read = json.loads((tmp_path / "out" / "decisions.json").read_text())
    labels = {d["stem"]: d["label"] for d in read["decisions"]}

    def write(verdicts, **changes):
        decisions = [
            {"stem": stem, "verdict": verdict, "label": labels.get(stem, "0"), "by": "person"}
            for stem, verdict in verdicts.items()
        ]
        path = tmp_path / "decisions.json"
        head = {"format": read["format"], "version": 1, "pool": "drive", "saved": "now"}
        path.write_text(json.dumps({**head, "decisions": decisions, **changes}))
        return path

    return write


def test_good_labels_are_kept_and_each_bad_one_goes_for_its_own_reason(screen):
    verdicts, summary, _ = screen()
    assert kept(verdicts) == GOOD
    expected = {
        "score": "score 0.20, less than 0.50",
        "shifted": "colour agrees to",
        "empty": "plants cover 0.0%",
        "full": "plants cover 100.0%",
        "unsure": "has no label",
        "size": "label and image differ in size: 96x32, image 96x64",
        "values": "unknown mask values: 7",
        "cut": "cut.jpg",
        "twin": "nearly the same as good0",
        "refused": "the labeller refused it: one mode",
    }
    for stem, reason in expected.items():
        assert verdicts[stem][0] == "reject"
        assert reason in verdicts[stem][1]
    assert summary["reasons"] == {
        "cover": 2, "damaged": 3, "score": 1, "agreement": 1, "unsure": 1, "duplicate": 1,
        "refused": 1,
    }  # fmt: skip


def test_the_kept_share_stands_beside_the_papers(screen):
    _, summary, lines = screen()
    assert (summary["kept"], summary["pool"], summary["kept_percent"]) == (6, 16, 37.5)
    assert lines[0] == "kept 6 of 16 (37.5 %); DepthCropSeg kept 1,378 of 17,199 (8.01 %)"


def test_what_is_kept_is_a_data_root_with_crop_and_weed_open(screen, tmp_path):
    screen()
    field = find_set([tmp_path / "out"], "drive", "train")
    assert sorted(field.pairs) == GOOD
    image, sets = field.read("good0")
    assert image.shape == (64, 96, 3)
    assert set(np.unique(sets)) == {1, 6}


def test_a_stricter_run_takes_out_what_it_no_longer_keeps(screen, tmp_path):
    screen()
    screen(thresholds={"min_score": 0.93})
    assert sorted(p.stem for p in (tmp_path / "out/drive/images").iterdir()) == GOOD[:3]
    assert sorted(p.stem for p in (tmp_path / "out/drive/masks").iterdir()) == GOOD[:3]


def test_a_wanted_share_takes_from_every_kind_of_scene_in_turn(screen, tmp_path):
    table = tmp_path / "scenes.csv"
    table.write_text(
        "stem,species\n" + "".join(f"good{i},maize\n" for i in range(5)) + "good5,beet"
    )
    verdicts, summary, lines = screen(scenes=table, thresholds={"keep": 2 / 16})
    assert len(kept(verdicts)) == 2
    assert "good5" in kept(verdicts)  # the only beet
    assert "good5" not in kept(screen(thresholds={"keep": 2 / 16})[0])
    assert sum("better ones of its kind" in reason for _, reason in verdicts.values()) == 4
    beet = [counts for name, counts in summary["groups"].items() if name.startswith("beet")]
    assert beet == [{"pool": 1, "kept": 1}]
    assert any("nothing left" in line for line in lines)


@pytest.mark.parametrize("only_decided", [False, True])
def test_a_person_has_the_last_word(screen, decisions_file, only_decided):
    path = decisions_file({"good0": "reject", "shifted": "accept", "good1": "accept"})
    verdicts, summary, _ = screen(decisions=path, only_decided=only_decided)
    assert kept(verdicts) == sorted(
        ["good1", "shifted"] if only_decided else [*GOOD[1:], "shifted"]
    )
    assert summary["decided_by_a_person"] == 3


def test_decisions_of_a_person_stand_until_others_are_read(screen, decisions_file):
    screen(decisions=decisions_file({"good0": "reject"}))
    assert "good0" not in kept(screen()[0])
    assert "good0" in kept(screen(decisions=decisions_file({"good1": "accept"}))[0])


@pytest.mark.parametrize(
    ("verdicts", "changes", "message"),
    [
        ({"good0": "accept"}, {"pool": "orchard"}, "about other images: its pool is 'orchard'"),
        ({"good0": "accept", "elsewhere": "accept"}, {}, "1 of its 2 are not in drive"),
        ({"good0": "maybe"}, {}, "damaged or no decisions file"),
        ({"good0": "accept"}, {"version": 2}, "version"),
        ({}, {"format": "something"}, "no decisions file"),
        ({}, {"decisions": None}, "no decisions file"),
        ({"cut": "accept"}, {}, "not in drive with a label"),
    ],
)
def test_decisions_of_other_images_or_damaged_are_refused(
    screen, decisions_file, tmp_path, verdicts, changes, message
):
    before = (tmp_path / "out" / "decisions.json").read_bytes()
    path = decisions_file(verdicts, **changes)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        screen(decisions=path)
    assert str(path) in str(error.value)
    assert (tmp_path / "out" / "decisions.json").read_bytes() == before


def test_a_decisions_file_that_was_cut_or_decides_twice_is_refused(screen, decisions_file):
    path = decisions_file({"good0": "accept", "good1": "reject"})
    whole = path.read_text()
    path.write_text(whole[:-40])
    with pytest.raises(ConfigError, match="damaged"):
        screen(decisions=path)
    path.write_text(whole.replace("good1", "good0"))
    with pytest.raises(ConfigError, match="more than once"):
        screen(decisions=path)


def test_decisions_do_not_outlive_the_label_that_they_were_about(
    screen, decisions_file, label_folder
):
    path = decisions_file({"good0": "accept"})
    mask = cv2.imread(str(label_folder / "masks/good0.png"), cv2.IMREAD_UNCHANGED)
    mask[:4] = 0
    mask[4:8] = 1
    (label_folder / "masks/good0.png").unlink()  # the root's own link keeps the old one
    cv2.imwrite(str(label_folder / "masks/good0.png"), mask)
    with pytest.raises(ConfigError, match="1 of its 1 labels have changed"):
        screen(decisions=path)


def test_a_killed_run_goes_on_and_measures_nothing_twice(screen, tmp_path, monkeypatch):
    screen()
    table = tmp_path / "out" / "measures.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join(lines[:4]) + lines[4][:20])  # killed while it wrote the fourth
    measured = []
    from training.pseudo_labels import pool

    measure = pool.measure
    monkeypatch.setattr(pool, "measure", lambda c: measured.append(c.stem) or measure(c))
    verdicts, _, _ = screen()
    assert kept(verdicts) == GOOD
    assert not {"good0", "good1", "good2"} & set(measured)
    assert {"good3", "good4", "good5"} <= set(measured)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stem,score\n", "needs the columns"),
        ("stem,status,score\na,ok,1.5\n", "line 2: a score is a number from 0 to 1, got '1.5'"),
        ("stem,status,score\na,ok,nan\n", "from 0 to 1"),
        ("stem,status,score\na,ok,high\n", "line 2"),
        ("stem,status,score\na,ok,1\na,ok,1\n", "line 3: a is there twice"),
        ("stem,status,score\n../a,ok,1\n", "without folder"),
    ],
)
def test_a_table_of_scores_that_is_not_understood_is_named(screen, label_folder, text, message):
    (label_folder / "scores.csv").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        screen()
    assert "scores.csv" in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keep", "0"], "--keep"),
        (["--min-score", "2"], "--min-score"),
        (["--depth", "nowhere"], "--depth nowhere is not a folder"),
        (["--scenes", "nowhere.csv"], "--scenes nowhere.csv cannot be read"),
        (["--decisions", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_options_that_cannot_be_are_refused(label_folder, tmp_path, options, message):
    arguments = ["screen", str(label_folder), "--out", str(tmp_path / "out"), *options]
    result = CliRunner().invoke(cli, arguments)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)


def test_the_labels_own_root_is_never_written_over(label_folder):
    for out in (label_folder, label_folder.parent, label_folder / "screened"):
        with pytest.raises(ConfigError, match="overwrite"):
            ScreenOptions.checked(labels=label_folder, out=out)


def test_the_page_holds_every_readable_label_and_needs_no_network(label_folder, tmp_path):
    out = tmp_path / "out"
    arguments = ["screen", str(label_folder), "--out", str(out), "--depth", str(tmp_path / "depth")]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert str(out / "explorer.html") in result.output
    page = (out / "explorer.html").read_text()
    assert page.count('<script type="text/plain"') == 12  # 16 less refused, size, values, cut
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    assert "default-src 'none'" in page
    assert {p.name for p in out.iterdir()} >= {"screen.yaml", "screen.log", "screening.json"}


def test_a_damaged_depth_map_costs_its_panel_and_not_the_page(screen, tmp_path, caplog):
    (tmp_path / "depth" / "good0.tif").write_bytes(b"no picture")
    screen(page_images=3, depth=tmp_path / "depth")
    page = (tmp_path / "out" / "explorer.html").read_text()
    parts = [len(text.split()) for text in re.findall(r'id="p\d+">(.*?)</script>', page)]
    assert parts == [2, 3, 3]
    assert "good0.tif" in caplog.text


def test_a_disk_that_fills_up_is_named_with_the_file_and_loses_nothing(screen, tmp_path):
    screen(page_images=3)
    page, root = tmp_path / "out" / "explorer.html", tmp_path / "out" / "splits.csv"
    before = (page.read_bytes(), root.read_bytes())
    (tmp_path / "out" / ".explorer.html.part").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"explorer.html: .*No space left"):
        screen(page_images=3)
    assert (page.read_bytes(), root.read_bytes()) == before


def test_a_large_pool_shows_the_kept_ones_first(screen, tmp_path):
    screen(page_images=6, thumbnail=64)
    page = (tmp_path / "out" / "explorer.html").read_text()
    facts = json.loads(re.search(r'id="facts">(.*?)</script>', page)[1])
    assert [image["stem"] for image in facts["images"]] == GOOD
    assert facts["size"] == 16


def test_a_browser_keeps_progress_for_one_state_of_decisions_only(screen, decisions_file, tmp_path):
    def key():
        page = (tmp_path / "out" / "explorer.html").read_text()
        return json.loads(re.search(r'id="facts">(.*?)</script>', page)[1])["key"]

    keys = []
    for verdict in ("accept", "reject"):
        for _ in range(2):
            screen(page_images=3, decisions=decisions_file({"good0": verdict}))
            keys.append(key())
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_names_cannot_break_out_of_the_page(screen, label_folder, tmp_path):
    table = label_folder / "scores.csv"
    table.write_text(table.read_text().replace("bimodality", "</script><b>"))
    screen(page_images=3)
    assert "</script><b>" not in (tmp_path / "out" / "explorer.html").read_text()


def test_agreement_falls_with_every_kind_of_wrong_label():
    rng = np.random.default_rng(0)
    image = rng.integers(60, 90, (60, 80, 3), np.uint8)
    truth = np.zeros((60, 80), np.uint8)
    truth[10:30, 10:50] = 1
    image[truth == 1, 1] += 100
    fat, thin = cv2.dilate(truth, np.ones((9, 9))), cv2.erode(truth, np.ones((9, 9)))
    right = agreement(image, truth)
    assert right > 0.93
    for wrong in (fat, thin, np.roll(truth, 20, axis=1), 1 - truth):
        assert agreement(image, wrong) < right - 0.1
    assert agreement(image, truth * 0) == agreement(image, truth * 0 + 1) == 0
    unsure = np.where(fat != thin, 255, truth).astype(np.uint8)
    assert agreement(image, unsure) > 0.97


def test_the_hash_survives_scale_and_light_and_tells_pictures_apart():
    def picture(seed):
        small = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
        return cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC)

    def apart(a, b):
        return (63 - hash_signs(perceptual_hash(a)) @ hash_signs(perceptual_hash(b))) / 2

    image = picture(0)
    brighter = cv2.convertScaleAbs(cv2.resize(image, (200, 150)), alpha=0.8, beta=20)
    assert apart(image, brighter) <= 3
    assert min(apart(image, picture(seed)) for seed in range(1, 20)) > 10


@pytest.mark.parametrize(
    ("level", "shadow", "expected"),
    [(20, 20, "dark"), (80, 80, "dim"), (150, 150, "bright"), (170, 20, "hard")],
)
def test_light_is_a_rough_class(level, shadow, expected):
    image = np.full((60, 80, 3), level, np.uint8)
    image[:, :16] = shadow
    assert light(image) == expected


def test_unknown_depth_is_grey_and_near_is_bright(tmp_path):
    depth = np.linspace(1, 3, 600, dtype=np.float32).reshape(20, 30)
    depth[0, :5] = [np.nan, 0, np.inf, -1, 1]
    cv2.imwrite(str(tmp_path / "a.tif"), depth)
    painted = paint_depth(read_depth(tmp_path, "a"))
    assert (painted[0, :4] == 128).all()
    assert painted[0, 4].sum() > painted[-1, -1].sum()
    assert read_depth(tmp_path, "b") is None


@pytest.mark.parametrize("what", ["datasets.yaml", "drive/images/mine.jpg"])
def test_a_root_that_screen_did_not_make_is_never_written_over(screen, tmp_path, what):
    mine = tmp_path / "out" / what
    mine.parent.mkdir(parents=True)
    mine.write_text("mine: {}")
    with pytest.raises(ConfigError, match="a data root that `screen` did not make"):
        screen()
    assert mine.read_text() == "mine: {}"
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == [mine]


def test_a_picture_that_does_not_fit_on_the_disk_is_named(screen, tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    monkeypatch.setattr("os.link", full)
    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(StorageError, match=r"/good0\.jpg cannot be written .*make room"):
        screen()
    screen_log = (tmp_path / "out" / "screen.log").read_text()
    assert "ERROR" in screen_log
