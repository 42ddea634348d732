"""What is asked of an evaluation in, its folder of results out: the steps of `evaluate`."""

import logging
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from cropseg_edge import __version__
from cropseg_edge.files import write_atomically
from training.config import Section
from training.evaluation.conditions import DEFINITIONS
from training.evaluation.evaluate import (
    Evaluation,
    Progress,
    evaluate,
    write_json,
    write_pictures,
)
from training.evaluation.methods import Method, distinct, open_baseline, open_model
from training.evaluation.page import write_page
from training.evaluation.pictures import read_pictures
from training.evaluation.summary import flat_metrics, markdown
from training.logfile import log_to

log = logging.getLogger("training")


class EvaluateConfig(Section):
    """One run of `python -m training evaluate`; the fields are its options."""

    root: Path
    split: str = "dev"
    sets: tuple[str, ...] = ()
    model: Path
    baselines: tuple[str, ...] = ()
    segformer_labels: dict[str, str] = Field(default_factory=dict)
    out: Path
    resamples: int = 2000
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None


def run(config: EvaluateConfig, progress: Progress | None = None) -> str:
    """Evaluate, write everything into `config.out`, and give the Markdown.

    Raises:
        CropSegError: something that the configuration names cannot be used; what was counted
            before is kept and used by the next run.
    """
    root = read_pictures(config.root, config.split, config.sets)
    methods = _open(config)
    config.out.mkdir(parents=True, exist_ok=True)
    effective = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    with log_to(config.out / "evaluate.log"):
        write_atomically(config.out / "config.yaml", effective.encode())
        found = evaluate(
            root, methods, config.out,
            resamples=config.resamples, seed=config.seed, progress=progress,
        )  # fmt: skip
        document = _document(config, found)
        text = markdown(document)
        write_atomically(config.out / "evaluation.md", text.encode())
        write_json(config.out / "evaluation.json", document)
        flat = flat_metrics(document["results"], methods[0].name)
        write_json(config.out / "metrics.json", {"datasets": flat})
        write_pictures(config.out / "pictures.csv", found)
        page = config.out / "evaluation.html"
        write_page(
            page, document, found,
            (lambda done, total: progress("page", done, total)) if progress else None,
        )  # fmt: skip
        log.info("written: %s, evaluation.md, evaluation.json, pictures.csv", page)
    return text


def _open(config: EvaluateConfig) -> list[Method]:
    if config.threads:
        import torch

        torch.set_num_threads(config.threads)
    methods = [open_model(config.model, device=config.device, threads=config.threads)]
    for spec in config.baselines:
        methods += open_baseline(
            spec,
            device=config.device,
            threads=config.threads,
            segformer_labels=config.segformer_labels,
        )
    return distinct(methods)


def _document(config: EvaluateConfig, found: Evaluation) -> dict[str, Any]:
    held = set(found.results["conditions"])
    return {
        "root": str(config.root),
        "split": config.split,
        "pictures": len(found.root.pictures),
        "resamples": config.resamples,
        "seed": config.seed,
        "code_version": __version__,
        "methods": [
            {
                "name": method.name,
                "note": method.note,
                "key": method.key,
                "parameters": method.parameters,
                "trained_on": None if method.trained_on is None else sorted(method.trained_on),
            }
            for method in found.methods
        ],
        "conditions": {name: text for name, text in DEFINITIONS.items() if name in held},
        "results": found.results,
    }
