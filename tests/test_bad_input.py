"""Every kind of bad input, given to the command line.

The message names the place, the mistake and what was expected. The exit status is 2, and no partial file is left.
A sound project is made once and copied for each kind. One thing in the copy is spoilt, and a command meets it.
"""

import base64
import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import made_up
import tiny
from duvae import cli, config
from duvae.commands import binarize, fetch, prepare, train
from duvae.data import fetched, sources
from duvae.data.sources import Source
from duvae.errors import HOST_UNAVAILABLE
from duvae.project import array_files, job_list, local_store
from duvae.project.files import file_digest
from duvae.tracking.store import connect
from serving import serve
from spoiling import (
    KNOWN,
    Here,
    Kind,
    Trap,
    archive,
    array,
    both,
    copy,
    cut,
    entry,
    flipped,
    folder,
    full_at_copy,
    full_at_fsync,
    full_at_write,
    gone,
    impatient,
    infinite,
    leave,
    line,
    link,
    mirror,
    no_permission,
    param,
    recorded,
    refusing,
    single,
    stamped,
    table,
    undrawn,
    unknown,
    unnamed,
    with_damaged_content,
    with_unknown_compression,
    write,
)

# MLflow and its dependencies warn of their own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore:::mlflow", "ignore:::sqlalchemy", "ignore:::alembic")

JOB = "--dataset synthetic --setting vae --seed 1"
MODEL = "models/synthetic/vae/1"
RESULTS = "results/synthetic/vae/1"
PREPARED = "data/prepared/synthetic"
GREY = "data/grey/pictures"
SENTENCES = tiny.sentences(0)

OUTPUTS = {
    "graph": ("pipelines/jobs.yaml", "pipelines"),
    "graph --check": ("data/graph.txt", "data"),
    "fetch --dataset own": ("data/raw/own/", "data/raw"),
    "prepare --dataset own": ("data/prepared/own", "data/prepared"),
    "prepare --dataset synthetic": (PREPARED, "data/prepared"),
    "prepare --dataset pictures": ("data/grey/pictures", "data/grey"),
    "binarize --dataset pictures": ("data/prepared/pictures", "data/prepared"),
    "validate --dataset own": ("reports/data_docs/own", "reports"),
    "truth --dataset synthetic": ("results/synthetic/truth.json", "results"),
    f"train {JOB}": ("checkpoints/synthetic-vae-1.", "checkpoints"),
    f"evaluate {JOB}": (f"{RESULTS}/per_example.json", "results"),
    f"probe {JOB}": (f"{RESULTS}/probe.json", "results"),
    f"samples {JOB}": ("generated/synthetic/vae/1.npz", "generated"),
    "figure1": ("reports/figure1.png", "reports"),
    "report": ("reports/index.html", "reports"),
    "examples --dataset short_yelp_small": ("reports/examples/short_yelp_small.html", "reports"),
}
"""The first path that each command writes, and a folder above it."""


def disks() -> Iterator[tuple[str, Kind]]:
    """For each command that writes, each way in which a disk can refuse."""
    expected = "Expected a folder with write permission, on a disk with free space"
    for command, (where, above) in OUTPUTS.items():
        # Makes sure that there is something to write. Drawing figures would take a second each.
        fresh = both(undrawn, write("pipelines/jobs.yaml", "old") if command == "graph" else leave)
        full, denied = os.strerror(errno.ENOSPC), os.strerror(errno.EACCES)
        file = both(fresh, write(above, "a file"))
        # Great Expectations writes the pages of a validation. A test can only make the project's own functions fail.
        first, writes = ("data/validated/own.json", VALIDATED) if command.startswith("validate") else (where, ())
        yield (
            f"disk full at fsync, {command}",
            Kind(command, both(fresh, full_at_fsync), where, full, expected, writes[:1]),
        )
        kept = writes
        if command.startswith("train"):  # safetensors (in Rust) writes the state and cannot be made to fail
            first, kept = f"{MODEL}/weights.safetensors", ("checkpoints/",)
        yield f"disk full at write, {command}", Kind(command, both(fresh, full_at_write), first, full, expected, kept)
        # A training must notice the refusal before it starts, not after hours.
        forbidden = f"{MODEL}/weights.safetensors" if command.startswith("train") else where
        yield (
            f"no permission, {command}",
            Kind(command, both(fresh, no_permission), forbidden, denied, expected, writes[:1]),
        )
        yield f"a file above, {command}", Kind(command, file, where, f"{above} is a file", expected, writes[:1])


# ------------------------------------------------------------------- the kinds

PARAMETERS = {
    "unknown key": Kind(
        f"train {JOB}", param("evaluation.importance_sample", 5), "params.yaml: evaluation.importance_sample (line ",
        "unknown key 'importance_sample'", " (did you mean 'importance_samples'?)\n",
    ),
    "wrong type": Kind(
        f"evaluate {JOB}", param("threads", "two"), "params.yaml: threads (line ", "found 'two'",
        "expected a whole number",
    ),
    "out of range": Kind(
        f"train {JOB}", param("settings.du_vae.columns.synthetic.p", 1.5),
        "params.yaml: settings.du_vae.columns.synthetic.p (line ", "found 1.5", "expected a number of at most 1.0",
    ),
    "not finite": Kind(
        f"train {JOB}", param("datasets.synthetic.optimisation.learning_rate", float("nan")),
        "params.yaml: datasets.synthetic.optimisation.learning_rate and 12 more (line ", "found nan",
        "expected a finite number",
    ),
    "unknown system": Kind(
        f"train {JOB}", param("settings.vae.system", "vea"), "params.yaml: settings.vae.system (line ",
        "unknown system 'vea'", " (did you mean 'vae'?)\n",
    ),
    "unknown data set in run": Kind(
        "graph", param("run.datasets", ["synthetik"]), "params.yaml: run.datasets.0 (line ",
        "unknown data set 'synthetik'", " (did you mean 'synthetic'?)\n",
    ),
    "unknown setting in run": Kind(
        "report", param("run.settings", ["ae", "du_va"]), "params.yaml: run.settings.1 (line ",
        "unknown setting 'du_va'", " (did you mean 'du_vae'?)\n",
    ),
    "another system's hyperparameter": Kind(
        "figure1", param("settings.ae.columns.synthetic", {"gamma": 1.0}),
        "params.yaml: settings.ae.columns.synthetic.gamma (line ", "unknown key 'gamma'", "expected none",
    ),
    "unknown data set in the command": Kind(
        "prepare --dataset synthetik", leave, "params.yaml", "unknown data set 'synthetik'",
        "did you mean 'synthetic'?",
    ),
    "unknown setting in the command": Kind(
        "probe --dataset synthetic --setting va --seed 1", leave, "params.yaml", "unknown setting 'va'",
        "did you mean 'vae'?",
    ),
    "a seed that is none": Kind(
        "train --dataset synthetic --setting vae --seed one", leave, "'--seed'", "unable to parse",
        "should be a valid integer",
    ),
    "a setting without the data set's column": Kind(
        "train --dataset own --setting vae --seed 1", param("settings.vae.columns", {"synthetic": {}}),
        "params.yaml: settings.vae.columns", "has no 'yelp', which data set 'own' needs", "Add that column",
    ),
    "the truth of a data set that has none": Kind(
        "truth --dataset own", leave, "--dataset own", "have a known true NLL",
        "only data sets of the kind 'synthetic'",
    ),
    "no parameters": Kind(
        f"train {JOB}", gone("params.yaml"), "params.yaml", "not there", "change to the project's folder",
    ),
    "empty parameters": Kind("graph", write("params.yaml", ""), "params.yaml", "found nothing", "expected a mapping"),
    "parameters cut short": Kind(
        "graph", write("params.yaml", "run: {datasets: [synth"), "params.yaml", "line 1", "not valid YAML",
    ),
    "parameters in another encoding": Kind(
        "graph", write("params.yaml", "run: é".encode("latin-1")), "params.yaml", "can't decode byte 0xe9", "UTF-8",
    ),
    "parameters that are a folder": Kind("graph", folder("params.yaml"), "params.yaml", "Is a directory", "UTF-8 text"),
    "a list of jobs that is out of date": Kind(
        "graph --check", param("run.seeds", [1, 2]), "pipelines/jobs.yaml", "out of date", "Run 'duvae graph'",
    ),
    "no list of jobs": Kind(
        "graph --check", gone("pipelines/jobs.yaml"), "pipelines/jobs.yaml", "not there", "Run 'duvae graph'",
    ),
    "a list of jobs that is no text": Kind(
        "graph --check", write("pipelines/jobs.yaml", b"\xff"), "pipelines/jobs.yaml", "cannot be read",
        "run 'duvae graph'",
    ),
}  # fmt: skip

RAW = "data/raw/own"
VALIDATED = "data/validated/own.json", "reports/data_docs"
"""Invalid data lose the file that declares them valid, and get pages that name the reasons."""

FILES = {
    "no file": Kind(
        "prepare --dataset own", gone(f"{RAW}/test.txt"), f"{RAW}/test.txt", "No such file", "Run 'duvae fetch'",
    ),
    "an empty file": Kind(
        "prepare --dataset own", write(f"{RAW}/train.txt", ""), f"{RAW}/train.txt",
        "empty", "expected at least one line",
    ),
    "a file of white space": Kind(
        "prepare --dataset own", write(f"{RAW}/valid.txt", " \n\n"), f"{RAW}/valid.txt", "empty",
        "expected at least one line",
    ),
    "a folder for a file": Kind(
        "prepare --dataset own", folder(f"{RAW}/valid.txt"), f"{RAW}/valid.txt", "Is a directory", "'duvae fetch'",
    ),
    "a file in Latin-1": Kind(
        "prepare --dataset own", write(f"{RAW}/train.txt", b"1\tgood\n0\tcaf\xe9\n"), f"{RAW}/train.txt, line 2",
        "found the byte 0xe9", "expected UTF-8",
    ),
    "a file in UTF-16": Kind(
        "prepare --dataset own", write(f"{RAW}/train.txt", "1\tgood\n".encode("utf-16")), f"{RAW}/train.txt, line 1",
        "found the byte 0xff", "expected UTF-8",
    ),
    "a file cut short in a letter": Kind(
        "prepare --dataset own", write(f"{RAW}/test.txt", "1\tgood\n0\tcafé".encode()[:-1]), f"{RAW}/test.txt, line 2",
        "found the byte 0xc3", "expected UTF-8",
    ),
    "a file cut short in a label": Kind(
        "prepare --dataset own", write(f"{RAW}/test.txt", "1\tgood\n0"), f"{RAW}/test.txt, line 2",
        "found no label in '0'", "expected label<TAB>document",
    ),
    "no label on line 17": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 17, "good"), f"{RAW}/train.txt, line 17",
        "found no label in 'good'", "expected label<TAB>document",
    ),
    "a label that is no number": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 3, "yes\tgood"), f"{RAW}/train.txt, line 3", "found 'yes'",
        "expected a label that is a whole number",
    ),
    "a negative label": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 3, "-1\tgood"), f"{RAW}/train.txt, line 3", "found '-1'",
        "expected a label that is a whole number",
    ),
    "a label more than the file's": Kind(
        "prepare --dataset own", param("datasets.own.source.test", [{"path": "test.txt", "label": 1}]),
        f"{RAW}/test.txt, line 1", "found '0\\t", "expected a document without a tab",
    ),
    "an empty document": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 5, "1\t "), f"{RAW}/train.txt, line 5", "found an empty line",
        "expected a document",
    ),
    "a document that is too long": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 5, "1\t" + "good " * 6), f"{RAW}/train.txt, line 5",
        "found 6", "expected at most 5 words",
    ),
    "a mark inside a document": Kind(
        "prepare --dataset own", line(f"{RAW}/train.txt", 5, "1\tgood </s>"), f"{RAW}/train.txt, line 5",
        "found 'good </s>'", "expected words",
    ),
    "a vocabulary without specials": Kind(
        "prepare --dataset own", write(f"{RAW}/vocab.txt", "good\nbad\n"), f"{RAW}/vocab.txt, line 1",
        "found 'good'", "expected <pad>",
    ),
    "a vocabulary of specials alone": Kind(
        "prepare --dataset own", write(f"{RAW}/vocab.txt", "<pad>\n<s>\n</s>\n<unk>\n"), f"{RAW}/vocab.txt",
        "found none", "expected words after the special words",
    ),
    "a word twice": Kind(
        "prepare --dataset own", line(f"{RAW}/vocab.txt", 9, "word1"), f"{RAW}/vocab.txt, line 9",
        "is on line 6 already", "expected a word that occurs once",
    ),
    "a sample that is too large": Kind(
        "prepare --dataset own", param("datasets.own.source.sample", {"size": 100, "seed": 1}),
        "params.yaml: source.sample.size", "found 100", "expected at most 20",
    ),
    "a label that training does not have": Kind(
        "validate --dataset own", array("data/prepared/own/test.labels.npy", lambda labels: labels + 1),
        "data/prepared/own", "known_labels (test)", "expected the label is one of training's", VALIDATED,
    ),
    "an id without a word": Kind(
        "validate --dataset own", array("data/prepared/own/test.tokens.npy", lambda ids: np.where(ids > 3, 99, ids)),
        "data/prepared/own", "highest_id_within_vocabulary (test)", "expected no id above 35", VALIDATED,
    ),
    "too many unknown words": Kind(
        "validate --dataset own",
        both(param("datasets.own.expect.max_unknown_rate", 0.1), array("data/prepared/own/test.tokens.npy", unknown)),
        "data/prepared/own", "unknown_word_rate (splits)", "expected at most 10.00%", VALIDATED,
    ),
}  # fmt: skip

OTHERS = ("data/raw/known",)
"""Complete files that arrived before the one that failed."""

FETCHING = {
    "another checksum, in a folder": Kind(
        "fetch --dataset known --mirror there", write(f"there/{KNOWN}", "other"),
        f"there/{KNOWN} is not the known one", f"found {hashlib.sha256(b'other').hexdigest()}",
        f"sha256 expected {hashlib.sha256(SENTENCES).hexdigest()}",
    ),
    "a file cut short in the mirror": Kind(
        "fetch --dataset known", mirror(SENTENCES[:-10]), f"train.txt: the file from {{url}}/{KNOWN}",
        f"found {hashlib.sha256(SENTENCES[:-10]).hexdigest()}",
        f"sha256 expected {hashlib.sha256(SENTENCES).hexdigest()}",
    ),
    "a connection that breaks off": Kind(
        "fetch --dataset known", mirror(SENTENCES[:10], missing=100), "mirror {url}", "broke off",
        "Correct --mirror or DUVAE_MIRROR, or try again", code=HOST_UNAVAILABLE,
    ),
    "an empty file from the mirror": Kind(
        "fetch --dataset known", mirror(b""), f"train.txt: the file from {{url}}/{KNOWN}", "is empty",
        "The copy was deleted",
    ),
    "an error page": Kind(
        "fetch --dataset known", mirror(b"<!DOCTYPE html><title>Quota exceeded</title>"), f"{{url}}/{KNOWN}",
        "found an HTML page", "expected a data file",
    ),
    "404": Kind(
        "fetch --dataset known", mirror(None), KNOWN, f"{{url}}/{KNOWN}: 404",
        "Without network, put the files into a mirror", OTHERS,
    ),
    "503": Kind(
        "fetch --dataset known", mirror(b"busy", status=503), KNOWN, f"{{url}}/{KNOWN}: 503",
        "Without network, put the files into a mirror", OTHERS,
    ),
    "a slow mirror": Kind(
        "fetch --dataset known", both(mirror(SENTENCES, delay=0.6), impatient), "mirror {url}",
        "did not answer in time", "Correct --mirror or DUVAE_MIRROR, or try again", code=HOST_UNAVAILABLE,
    ),
    "a mirror that refuses": Kind(
        "fetch --dataset known --mirror http://127.0.0.1:9", leave, "mirror http://127.0.0.1:9",
        "no connection to 127.0.0.1:9", "Correct --mirror or DUVAE_MIRROR, or try again", code=HOST_UNAVAILABLE,
    ),
    "a mirror that is not there": Kind(
        "fetch --dataset known --mirror nowhere", leave, "mirror nowhere", "no such folder",
        "expected a folder or a URL",
    ),
    "a mirror that is a file": Kind(
        "fetch --dataset known --mirror params.yaml", leave, "mirror params.yaml", "no such folder",
        "expected a folder or a URL",
    ),
    "a mirror of another protocol": Kind(
        "fetch --dataset known --mirror ftp://127.0.0.1", leave, "mirror ftp://127.0.0.1", "no such folder",
        "expected a folder or a URL (http or https)",
    ),
    "no mirror and no address": Kind(
        "fetch --dataset known", leave, KNOWN, "no address on the internet is known",
        "put the files into a mirror", OTHERS,
    ),
    "no file of one's own": Kind(
        "fetch --dataset own", gone("valid.txt"), "no such file: valid.txt", "must be your own",
        "Expected it at its path in params.yaml",
    ),
    "an archive that is none": Kind(
        "fetch --dataset known",
        both(archive(tarfile.TarInfo(KNOWN)), lambda here: here.server.give("all.tar.gz", b"no")),
        "{url}/all.tar.gz", "cannot be read", "expected a tar.gz archive", OTHERS,
    ),
    "an archive that climbs": Kind(
        "fetch --dataset known", archive(tarfile.TarInfo(f"../{KNOWN}"), b"1"), "{url}/all.tar.gz",
        f"'../{KNOWN}' is not a plain file inside the archive", "Put the file into a mirror", OTHERS,
    ),
    "an archive with a link": Kind(
        "fetch --dataset known", archive(link(KNOWN, "/etc/passwd")), "{url}/all.tar.gz",
        f"'{KNOWN}' is not a plain file inside the archive", "Put the file into a mirror", OTHERS,
    ),
}  # fmt: skip

AGAIN = "Run 'duvae prepare --dataset synthetic' again"

ARRAYS = {
    "no prepared data": Kind(f"train {JOB}", gone(PREPARED), PREPARED, "expected a prepared data set", AGAIN),
    "data that nobody validated": Kind(
        f"train {JOB}", gone("data/validated"), "data/validated/synthetic.json", "not there",
        "Run 'duvae validate --dataset synthetic' first",
    ),
    "ids cut short": Kind(
        f"train {JOB}", cut(f"{PREPARED}/train.tokens.npy"), PREPARED,
        "train.tokens.npy: has changed since it was written", AGAIN,
    ),
    "offsets cut short": Kind(
        f"evaluate {JOB}", cut(f"{PREPARED}/test.offsets.npy"), PREPARED,
        "test.offsets.npy: has changed since it was written", AGAIN,
    ),
    "an empty array": Kind(
        f"evaluate {JOB}", write(f"{PREPARED}/test.labels.npy", ""), PREPARED,
        "test.labels.npy: has changed since it was written", AGAIN,
    ),
    "no labels": Kind(
        f"probe {JOB}", gone(f"{PREPARED}/test.labels.npy"), PREPARED, "test.labels.npy: not there", AGAIN,
    ),
    "arrays that do not fit": Kind(
        f"train {JOB}", array(f"{PREPARED}/valid.labels.npy", lambda labels: labels[:-1]), PREPARED,
        "the arrays of split 'valid' do not fit", AGAIN,
    ),
    "an array of fractions": Kind(
        f"train {JOB}", array(f"{PREPARED}/train.tokens.npy", lambda ids: ids * 1.5), PREPARED,
        "in the arrays of split 'train'", "expected rows of whole numbers",
    ),
    "ids beyond the vocabulary": Kind(
        f"train {JOB}", array(f"{PREPARED}/train.tokens.npy", lambda ids: ids + 500), PREPARED, "found 501 to ",
        "expected ids from 0 to 203",
    ),
    "a vocabulary that is too short": Kind(
        f"train {JOB}", cut(f"{PREPARED}/vocabulary.txt"), PREPARED,
        "vocabulary.txt: has changed since it was written", AGAIN,
    ),
    "no validation split": Kind(
        f"train {JOB}", gone(f"{PREPARED}/valid.offsets.npy"), f"{PREPARED}/valid.offsets.npy", "not there", AGAIN,
    ),
    "a split that is gone, validated": Kind(
        "validate --dataset synthetic", gone(f"{PREPARED}/test.offsets.npy"), f"{PREPARED}/test.offsets.npy",
        "not there, though summary.json lists it", AGAIN, ("data/validated/synthetic.json",),
    ),
    "a split that is gone, binarized": Kind(
        "binarize --dataset pictures", gone(f"{GREY}/valid.labels.npy"), f"{GREY}/valid.labels.npy",
        "not there, though summary.json lists it", "Run 'duvae prepare --dataset pictures' again",
    ),
    "a pickle for an array": Kind(
        f"evaluate {JOB}", array(f"{PREPARED}/test.labels.npy", lambda _: np.array([Trap()], object)), PREPARED,
        "Object arrays cannot be loaded", AGAIN,
    ),
    "a broken summary": Kind(
        f"train {JOB}", cut(f"{PREPARED}/summary.json"), f"{PREPARED}/summary.json", "expected JSON, but",
        "run 'duvae prepare --dataset synthetic' again",
    ),
    "a generator cut short": Kind(
        "truth --dataset synthetic", cut(f"{PREPARED}/generator.output.npy"), f"{PREPARED}/generator.output.npy",
        "has changed since it was written", AGAIN,
    ),
    "no labels to probe with": Kind(
        f"probe {JOB}", array(f"{PREPARED}/train.labels.npy", lambda labels: labels * 0 - 1), PREPARED,
        "every example of split 'train'", "expected a label",
    ),
    "more labels to probe with than documents": Kind(
        f"probe {JOB}", param("datasets.synthetic.probe.labels", [100000]),
        "params.yaml: datasets.synthetic.probe.labels", "found 100,000", "expected at most 640",
    ),
}  # fmt: skip

TRAIN = f"Run 'duvae train {JOB}' again"
WEIGHTS = f"{MODEL}/weights.safetensors"

MODELS = {
    "no model": Kind(
        f"evaluate {JOB}", gone(MODEL), f"{MODEL}/model.json", "not there", f"'duvae train {JOB}' makes it",
    ),
    "no weights": Kind(f"probe {JOB}", gone(WEIGHTS), WEIGHTS, "not there", f"'duvae train {JOB}' makes it"),
    "weights cut short": Kind(f"evaluate {JOB}", cut(WEIGHTS), WEIGHTS, "cannot be read", TRAIN),
    "weights cut short in their header": Kind(f"probe {JOB}", cut(WEIGHTS, 0.01), WEIGHTS, "cannot be read", TRAIN),
    "empty weights": Kind(f"evaluate {JOB}", write(WEIGHTS, ""), WEIGHTS, "cannot be read", TRAIN),
    "a pickle for weights": Kind(
        f"evaluate {JOB}", write(WEIGHTS, pickle.dumps(Trap())), WEIGHTS, "cannot be read", TRAIN,
    ),
    "weights of another system": Kind(
        f"evaluate {JOB}", copy("models/synthetic/du_vae/1/weights.safetensors", WEIGHTS), WEIGHTS,
        "they are of another training, of du_vae", "expected the weights of the vae",
    ),
    "a model of another system": Kind(
        f"evaluate {JOB}", copy("models/synthetic/du_vae/1", MODEL), f"{MODEL}/model.json", "found one of du_vae",
        "expected a model of vae",
    ),
    "weights with another vocabulary": Kind(
        f"probe {JOB}", copy("models/own/vae/1/weights.safetensors", WEIGHTS), WEIGHTS, "they are of another training",
        "expected the weights of the vae",
    ),
    "a model with another vocabulary": Kind(
        f"probe {JOB}", copy("models/own/vae/1", MODEL), f"{MODEL}/model.json", "found one of 36",
        "expected a vocabulary of 204 words",
    ),
    "weights of another shape": Kind(
        f"evaluate {JOB}", unnamed("models/own/vae/1/weights.safetensors", WEIGHTS), WEIGHTS,
        "where 204 x 8 is expected", "expected the weights of the vae",
    ),
    "weights that are not finite": Kind(
        f"evaluate {JOB}", infinite(WEIGHTS), WEIGHTS, "is not finite", "expected the weights of the vae",
    ),
    "a broken model.json": Kind(
        f"evaluate {JOB}", cut(f"{MODEL}/model.json"), f"{MODEL}/model.json", "expected JSON, but",
        f"run 'duvae train {JOB}' again",
    ),
    "a model.json without its system": Kind(
        f"evaluate {JOB}", entry(f"{MODEL}/model.json", "system"), f"{MODEL}/model.json",
        "missing 1 required positional argument: 'system'", TRAIN,
    ),
    "a model.json of a system that is not there": Kind(
        f"evaluate {JOB}", entry(f"{MODEL}/model.json", "system", "vq_vae"), f"{MODEL}/model.json", "'vq_vae'", TRAIN,
    ),
    "a model.json that is a list": Kind(
        f"evaluate {JOB}", write(f"{MODEL}/model.json", "[]"), f"{MODEL}/model.json", "must be a mapping", TRAIN,
    ),
    "a model.json of impossible sizes": Kind(
        f"evaluate {JOB}", entry(f"{MODEL}/model.json", "words", -1), f"{MODEL}/model.json", "negative dimension",
        TRAIN,
    ),
    "a file where the models go": Kind(
        f"train {JOB}", write("models", "a file"), WEIGHTS, "models is a file", "Expected a folder",
    ),
    "a training that is not finite": Kind(
        "train --dataset synthetic --setting mae --seed 1", both(
            param("datasets.synthetic.optimisation.learning_rate", 1e6),
            param("datasets.synthetic.optimisation.clip", 1e6),
            param("settings.mae.columns.synthetic", {"gamma": 1e6, "eta": 1e6}),
        ), "at epoch 1, batch ",
        "is not finite", "Try a smaller learning_rate or clip in params.yaml",
    ),
}  # fmt: skip

METRICS = f"{RESULTS}/metrics.json"
EVALUATE = f"duvae evaluate {JOB}"
EXAMPLES = f"{RESULTS}/per_example.json"
TRUTH = "results/synthetic/per_example.json"
STORE = "mlflow.db", "mlruns"
"""An interrupted run is marked as such, and a later run replaces it."""


def kept(edit: Callable[[dict[str, Any]], dict[str, Any]], path: str = EXAMPLES) -> Callable[[Here], None]:
    """Returns a function that changes the arrays of a file."""

    def spoil(here: Here) -> None:
        about, arrays = array_files.read(here.root / path, EVALUATE)
        array_files.write(here.root / path, about, edit(arrays))

    return spoil


def packed(spoil: Callable[[bytes], bytes]) -> Callable[[Here], None]:
    """Returns a function that changes the archive in EXAMPLES."""

    def change(here: Here) -> None:
        content = json.loads((here.root / EXAMPLES).read_text(encoding="utf-8"))
        archive = spoil(base64.b64decode("".join(content["npz"])))
        entry(EXAMPLES, "npz", [base64.b64encode(archive).decode()])(here)

    return change


def endless(here: Here) -> None:
    """Gives the test set in EXAMPLES an infinite number of examples."""
    (about,) = json.loads((here.root / EXAMPLES).read_text(encoding="utf-8"))["about"]
    entry(EXAMPLES, "about", [{**about, "documents": {**about["documents"], "test": float("inf")}}])(here)


RESULT = {
    "no metrics": Kind("report", gone(METRICS), METRICS, "not there", f"'{EVALUATE}' makes it"),
    "half a history": Kind(
        "report", both(stamped(RESULTS, "train.run.json", "history.csv"), cut(f"{RESULTS}/history.csv")),
        f"{RESULTS}/history.csv", "has changed since", f"run 'duvae train {JOB}' again",
    ),
    "half a history, tracked": Kind(
        "track", both(undrawn, stamped(RESULTS, "train.run.json", "history.csv"), cut(f"{RESULTS}/history.csv")),
        f"{RESULTS}/history.csv", "has changed since", f"run 'duvae train {JOB}' again", STORE,
    ),
    "a changed number in metrics.json": Kind(
        "figure1",
        both(stamped(RESULTS, "evaluate.run.json", "metrics.json"), entry(f"{RESULTS}/metrics.json", "nll", 1.0)),
        f"{RESULTS}/metrics.json", "has changed since", f"run 'duvae evaluate {JOB}' again",
    ),
    "no results at all": Kind("figure1", gone("results"), "history.csv", "not there", "'dvc repro' makes all"),
    "broken metrics": Kind("figure1", cut(METRICS), METRICS, "expected JSON, but", f"run '{EVALUATE}' again"),
    "metrics without one": Kind(
        "report", entry(METRICS, "mi"), METRICS, "expected mi in it", f"Run '{EVALUATE}' again",
    ),
    "metrics that are text": Kind(
        "figure1", entry(METRICS, "nll", "41"), f"{METRICS}: nll", "found '41'", "expected a number",
    ),
    "metrics that are a list": Kind(
        "report", write(METRICS, "[1]"), METRICS, "found a list of length 1", "expected a mapping",
    ),
    "an empty history": Kind(
        "report", write(f"{RESULTS}/history.csv", ""), f"{RESULTS}/history.csv", "No columns", "expected a table",
    ),
    "a history without an epoch": Kind(
        "figure1", table(f"{RESULTS}/history.csv", lambda frame: frame[:0]), f"{RESULTS}/history.csv",
        "expected a row or more", f"Run 'duvae train {JOB}' again",
    ),
    "a history of words": Kind(
        "figure1", table(f"{RESULTS}/history.csv", lambda frame: frame.assign(valid_kl="much")),
        f"{RESULTS}/history.csv", "numbers in valid_kl", f"Run 'duvae train {JOB}' again",
    ),
    "a history without a column": Kind(
        "track", both(undrawn, table(f"{RESULTS}/history.csv", lambda frame: frame.drop(columns="best"))),
        f"{RESULTS}/history.csv", "expected the columns best", f"Run 'duvae train {JOB}' again", STORE,
    ),
    "probes without accuracies": Kind(
        "report", entry(f"{RESULTS}/probe.json", "by_labels", {"100": {}}), f"{RESULTS}/probe.json",
        "by_labels.100.accuracy", "expected",
    ),
    "a provenance without times": Kind(
        "figure1", recorded(f"{RESULTS}/train.run.json", "wall_seconds"), f"{RESULTS}/train.run.json",
        "expected wall_seconds in it", f"Run 'duvae train {JOB}' again",
    ),
    "a provenance of no day": Kind(
        "track", both(undrawn, recorded(f"{RESULTS}/train.run.json", "started", "today")),
        f"{RESULTS}/train.run.json: started", "'today'", f"Run 'duvae train {JOB}' again", STORE,
    ),
    "examples cut short": Kind("figure1", cut(EXAMPLES), EXAMPLES, "expected JSON", f"run '{EVALUATE}' again"),
    "examples without an archive": Kind(
        "figure1", entry(EXAMPLES, "npz"), EXAMPLES, "expected arrays, but 'npz'", f"run '{EVALUATE}' again",
    ),
    "examples that are no archive": Kind(
        "report", entry(EXAMPLES, "npz", ["AAAA"]), EXAMPLES, "expected arrays", f"run '{EVALUATE}' again",
    ),
    "examples that cannot be unpacked": Kind(
        "figure1", packed(with_damaged_content), EXAMPLES, "expected arrays, but Error -3 while decompressing",
        f"run '{EVALUATE}' again",
    ),
    "examples of an unknown compression": Kind(
        "report", packed(with_unknown_compression), EXAMPLES, "expected arrays, but That compression method",
        f"run '{EVALUATE}' again",
    ),
    "examples of an endless data set": Kind(
        "figure1", endless, EXAMPLES, "cannot convert float infinity", f"Run '{EVALUATE}' again",
    ),
    "examples in no order": Kind(
        "figure1", kept(lambda arrays: {**arrays, "steps": -arrays["steps"]}), EXAMPLES,
        "ascending indices of test examples", f"Run '{EVALUATE}' again",
    ),
    "more examples than the data set has": Kind(
        "report", kept(lambda arrays: {**arrays, "steps": 2 * arrays["steps"]}), EXAMPLES,
        "ascending indices of test examples", f"Run '{EVALUATE}' again",
    ),
    "examples with parts of indices": Kind(
        "figure1", kept(lambda arrays: {**arrays, "steps": arrays["steps"] + 0.5}), EXAMPLES,
        "the type float64 where int64 is expected", f"Run '{EVALUATE}' again",
    ),
    "examples with a negative variance": Kind(
        "figure1", kept(lambda arrays: {**arrays, "variance": -arrays["variance"]}), EXAMPLES,
        "variance has negative values", f"Run '{EVALUATE}' again",
    ),
    "codes of some examples only": Kind(
        "figure1", kept(lambda arrays: {
            **arrays, **{name: arrays[name][:250] for name in ("mean", "variance", "label")}
        }), EXAMPLES, "mean is not of all test examples", f"Run '{EVALUATE}' again",
    ),
    "examples of one dimension": Kind(
        "figure1", kept(lambda arrays: {name: arrays[name] for name in ("steps", "nll")}),
        "results of synthetic-vae-1", "found another number", "a drawing needs two latent dimensions",
    ),
    "examples of which some lack": Kind(
        "report", kept(lambda arrays: {**arrays, "mean": arrays["mean"][:5]}), EXAMPLES, "not of the same examples",
        f"Run '{EVALUATE}' again",
    ),
    "examples of other data": Kind(
        "figure1", kept(lambda arrays: arrays | {name: arrays[name][:100] for name in ("steps", "nll", "unseen")}),
        "the true NLL is known for 200 sentences", "evaluated on only 100", "Run 'dvc repro'",
    ),
    "no truth": Kind(
        "figure1", gone("results/synthetic/truth.json"), "results/synthetic/truth.json", "not there",
        "'duvae truth --dataset synthetic' makes it",
    ),
    "a truth without its likelihood": Kind(
        "report", entry("results/synthetic/truth.json", "nll"), "results/synthetic/truth.json", "expected nll in it",
        "Run 'duvae truth --dataset synthetic' again",
    ),
    "a truth of other arrays": Kind(
        "figure1", entry("results/synthetic/per_example.json", "npz", []), "results/synthetic/per_example.json",
        "expected arrays", "run 'duvae truth --dataset synthetic' again",
    ),
    "a truth whose labels are not its codes'": Kind(
        "figure1", kept(lambda arrays: {**arrays, "label": arrays["label"][1:]}, TRUTH), TRUTH,
        "nll, z and label are not of the same examples", "Run 'duvae truth --dataset synthetic' again",
    ),
    "a store that is no database": Kind(
        "track", write("mlflow.db", b"no database" * 100), "mlflow.db", "file is not a database", "You may delete",
    ),
    "a store cut short": Kind("track", cut("mlflow.db"), "mlflow.db", "malformed", "You may delete"),
    "a store that is a folder": Kind("track", folder("mlflow.db"), "mlflow.db", "unable to open", "You may delete"),
    "a store of another kind": Kind(
        "track", lambda here: here.patch.setenv("MLFLOW_TRACKING_URI", "nonsense://here"), "nonsense://here",
        "cannot be used as MLflow's store", "Set MLFLOW_TRACKING_URI to another store, or unset it",
    ),
    "a store that refuses": Kind("track", refusing, "http://127.0.0.1:9", "Connection refused", "MLFLOW_TRACKING_URI"),
    "artifacts that cannot be written": Kind(
        "track", both(undrawn, write("mlruns", "a file")), "mlflow.db", "mlruns", "You may delete", STORE,
    ),
    "no space for artifacts": Kind(
        "track", both(undrawn, full_at_copy), "mlflow.db", "No space left", "with space left", STORE,
    ),
}  # fmt: skip

PICTURE = "data/raw/pictures/pictures/a/x/0.png"


def objects() -> bytes:
    """The content of an npz file whose array would run code if it were unpickled."""
    file = io.BytesIO()
    np.savez(file, images=np.array([Trap()], object))

    return file.getvalue()


IMAGES = {
    "a picture cut short": Kind(
        "prepare --dataset pictures", cut(PICTURE), PICTURE, "cannot be read", "expected a picture",
    ),
    "a picture of words": Kind(
        "prepare --dataset pictures", write(PICTURE, "words"), PICTURE, "its format is another one",
        "expected a picture",
    ),
    "a folder without pictures": Kind(
        "fetch --dataset pictures", both(param("datasets.pictures.source.path", "empty"), folder("empty")), "empty",
        "found none", "expected files in this folder",
    ),
    "arrays with Python objects": Kind(
        "prepare --dataset pictures",
        both(param("datasets.pictures.source.path", "own.npz"), write("data/raw/pictures/own.npz", objects())),
        "data/raw/pictures/own.npz", "found Python objects", "expected plain numbers",
    ),
    "no grey values": Kind(
        "binarize --dataset pictures", gone(GREY), GREY, "expected a prepared data set",
        "Run 'duvae prepare --dataset pictures'",
    ),
    "grey values out of range": Kind(
        "binarize --dataset pictures", array(f"{GREY}/test.pixels.npy", lambda x: x * 2), GREY, "found 0.0 to 2.0",
        "expected pixels from 0 to 1",
    ),
    "bits of texts": Kind(
        "binarize --dataset own", leave, "--dataset own", "are binarized", "only data sets of the kinds",
    ),
    "images that are texts now": Kind(
        "binarize --dataset pictures", both(gone(GREY), copy("data/prepared/own", GREY)), "data/prepared",
        "found documents", "expected images in split 'test'",
    ),
}  # fmt: skip


def terabyte() -> bytes:
    """The content of a small npz file whose only array announces a size of a terabyte."""
    header, file = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000)})
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr("images.npy", header.getvalue())

    return file.getvalue()


CHANGED = "has changed since it was written"
BITS = "Run 'duvae binarize --dataset pictures' again"
CONFLICT = "schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\n>>>>>>> other\n"

LATER = {
    "a changed bit of the labels": Kind(
        f"probe {JOB}", flipped(f"{PREPARED}/test.labels.npy", -8), f"{PREPARED}/test.labels.npy", CHANGED, AGAIN,
    ),
    "a changed bit of the ids": Kind(
        f"evaluate {JOB}", flipped(f"{PREPARED}/test.tokens.npy", -4), f"{PREPARED}/test.tokens.npy", CHANGED, AGAIN,
    ),
    "a changed bit of the vocabulary": Kind(
        f"train {JOB}", flipped(f"{PREPARED}/vocabulary.txt", -2), f"{PREPARED}/vocabulary.txt", CHANGED, AGAIN,
    ),
    "a changed bit of the pixels": Kind(
        "validate --dataset pictures", flipped("data/prepared/pictures/test.pixels.npy", -1),
        "data/prepared/pictures/test.pixels.npy", CHANGED, BITS,
    ),
    "a changed bit of the grey values": Kind(
        "binarize --dataset pictures", flipped(f"{GREY}/test.pixels.npy", -4), f"{GREY}/test.pixels.npy", CHANGED,
        "Run 'duvae prepare --dataset pictures' again",
    ),
    "a changed summary": Kind(
        f"evaluate {JOB}", entry(f"{PREPARED}/summary.json", "words", 5), f"{PREPARED}/summary.json", CHANGED,
        AGAIN,
    ),
    "a changed truth": Kind(
        "figure1",
        both(
            write("results/synthetic/truth.run.json", '{"record": [{}]}'),
            stamped("results/synthetic", "truth.run.json", "truth.json"),
            entry("results/synthetic/truth.json", "nll", 1.0),
        ),
        "results/synthetic/truth.json", "has changed since", "run 'duvae truth --dataset synthetic' again",
    ),
    "an npz that announces a terabyte": Kind(
        "prepare --dataset pictures",
        both(param("datasets.pictures.source.path", "own.npz"), write("data/raw/pictures/own.npz", terabyte())),
        "data/raw/pictures/own.npz, array images", "(1000000, 1000, 1000) of uint8", "expected arrays of at most 4 GiB",
    ),
    "a picture whose name is not UTF-8": Kind(
        "fetch --dataset pictures", write(os.fsdecode(b"pictures/a/x/\xff.png"), "words"), r"pictures/a/x/\xff.png",
        "found bytes of another encoding", "expected a name in UTF-8",
    ),
    "a merge conflict in dvc.lock": Kind(
        "track", both(undrawn, write("dvc.lock", CONFLICT)), "dvc.lock", "If git left a merge conflict in it",
        "expected the stages that DVC has recorded", STORE,
    ),
    "a probe larger than the training set": Kind(
        "probe --dataset own --setting vae --seed 1", param("datasets.own.probe.labels", [10_000]),
        "params.yaml: datasets.own.probe.labels", "found 10000", "expected at most 20",
    ),
    "a probe larger than the training set, validated": Kind(
        "validate --dataset own", param("datasets.own.probe.labels", [10_000]), "data/prepared/own", "size (train)",
        "expected 10000 documents or more", VALIDATED,
    ),
    "a probe smaller than the number of labels": Kind(
        "validate --dataset own", param("datasets.own.probe.labels", [1]), "params.yaml: datasets.own.probe.labels",
        "found 1", "expected at least 2", VALIDATED,
    ),
    "a single test example to interpolate between": Kind(
        "validate --dataset own", both(single("own"), param("datasets.own.probe", {})), "data/prepared/own",
        "found 1", "expected two test examples or more", VALIDATED,
    ),
    "subsets of a generator": Kind(
        "graph", param("datasets.synthetic.probe.subsets", ["labelled"]),
        "params.yaml: datasets.synthetic.probe.subsets", "a generator has no files of subsets", "expected none",
    ),
}  # fmt: skip

KINDS = {**PARAMETERS, **FILES, **IMAGES, **FETCHING, **ARRAYS, **MODELS, **RESULT, **LATER, **dict(disks())}


# ------------------------------------------------------------------- the sound project, and what meets it


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which every command succeeds: made-up results of Figure 1, small data and small models."""
    root = tmp_path_factory.mktemp("sound")
    run = {"datasets": ["synthetic", "short_yelp_small"], "settings": list(config.FIGURE1_SETTINGS)}
    made_up.project(root, made_up.params(**run))
    shutil.rmtree(root / "models")
    tiny.own(root)
    tiny.pictures(root)
    raw = tiny.small()
    tiny.block(raw).update(run)
    own = raw["datasets"]["own"]
    raw["datasets"]["known"] = {**own, "source": {**own["source"], "train": [{"path": KNOWN}]}}
    (root / "params.yaml").write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    params = config.load(root / "params.yaml")
    job_list.write(params, root / job_list.JOBS)
    for dataset in ("own", "pictures"):
        fetch.run(params, dataset, None, root)
    # The cases spoil fetched files. `prepare` must judge their content, and not only see that they have changed.
    for path in (root / "data/raw").glob(f"*/{fetched.FILE}"):
        path.unlink()
    prepare.run(params, "pictures", root)
    binarize.run(params, "pictures", root)
    for dataset in ("synthetic", "own"):
        prepare.run(params, dataset, root)
        (root / "data/validated").mkdir(exist_ok=True)
        (root / f"data/validated/{dataset}.json").write_text("{}")
    kept = {path: path.read_bytes() for path in (root / "results").rglob("*") if path.is_file()}
    for dataset, setting in (("synthetic", "vae"), ("synthetic", "du_vae"), ("own", "vae")):
        train.run(params, dataset, setting, 1, root)
    shutil.rmtree(root / "results/own")
    for path, content in kept.items():
        path.write_bytes(content)
    (root / "checkpoints").rmdir()
    connect(root)

    return root


@pytest.fixture
def here(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """A copy of the sound project for one test."""
    root = tmp_path / "project"
    shutil.copytree(sound, root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("DUVAE_MIRROR", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    known = Source(f"sha256:{hashlib.sha256(SENTENCES).hexdigest()}", None)
    monkeypatch.setattr(sources, "SOURCES", {**sources.SOURCES, KNOWN: known})
    with serve() as server:
        yield Here(root, monkeypatch, server)


def call(here: Here, command: str) -> int:
    """Runs `duvae <command>` in this process. Returns the exit code."""
    here.patch.setattr(sys, "argv", ["duvae", *command.split()])
    with pytest.raises(SystemExit) as leaving:
        cli.main()

    return int(leaving.value.code or 0)


def contents(root: Path) -> dict[str, bytes]:
    """The content of every file below a folder, by its path. MLflow's locks, which are always empty, do not count."""
    locks = root / local_store.FILLING_LOCK, root / f"{local_store.FILE}.lock"

    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path not in locks
    }


@pytest.mark.parametrize("kind", KINDS)
def test_bad_input(kind: str, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    of = KINDS[kind]
    of.spoil(here)
    before = contents(here.root)

    code = call(here, of.command)

    here.patch.undo()
    said = re.sub(r"^(synthetic-.*: epoch \d+ of \d+  .*\n)+", "", capsys.readouterr().err)  # a training's progress
    assert code == of.code, said
    assert said.startswith("error: ")
    assert "Traceback" not in said
    for part in (of.where, of.wrong, of.expected):
        assert part.replace("{url}", here.server.url) in said
    after = contents(here.root)
    changed = [path for path in before.keys() | after.keys() if before.get(path) != after.get(path)]
    assert [path for path in changed if not path.startswith(of.writes or "/")] == []
    assert [path for path in here.root.rglob("*") if path.name.startswith(".") or path.suffix == ".part"] == []


@pytest.mark.parametrize("command", sorted({kind.command for kind in KINDS.values()} & {*OUTPUTS, "track"}))
def test_the_sound_project_is_sound(command: str, here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command succeeds in the sound project."""
    undrawn(here)
    assert call(here, command) == 0, capsys.readouterr().err


@pytest.mark.parametrize("kind", ["unknown key", "no label on line 17", "weights cut short"])
def test_the_command_itself(kind: str, here: Here) -> None:
    """The command behaves in the same way in a process of its own."""
    of = KINDS[kind]
    of.spoil(here)
    done = subprocess.run(
        [sys.executable, "-m", "duvae", *of.command.split()], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    for part in (of.where, of.wrong, of.expected):
        assert part in done.stderr


def test_data_without_labels_are_sound_where_none_are_wanted(here: Here) -> None:
    array(f"{PREPARED}/test.labels.npy", lambda labels: labels * 0 - 1)(here)
    param("datasets.synthetic.probe", {})(here)

    assert call(here, f"probe {JOB}") == 0
    assert json.loads((here.root / RESULTS / "probe.json").read_text())["by_labels"] == {}


@pytest.mark.parametrize("dataset", ["own", "pictures"])
def test_one_class_is_sound_where_no_probe_is_wanted(
    dataset: str, here: Here, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "valid", "test"):
        array(f"data/prepared/{dataset}/{split}.labels.npy", lambda labels: labels * 0)(here)
    param(f"datasets.{dataset}.probe", {})(here)

    assert call(here, f"validate --dataset {dataset}") == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "folder", "outputs"),
    [
        (f"train {JOB}", RESULTS, {"history.csv"}),
        (f"evaluate {JOB}", RESULTS, {"metrics.json", "per_example.json"}),
        (f"probe {JOB}", RESULTS, {"probe.json"}),
        ("truth --dataset synthetic", "results/synthetic", {"truth.json", "per_example.json"}),
    ],
)
def test_a_stage_records_the_digests_of_its_outputs(command: str, folder: str, outputs: set[str], here: Here) -> None:
    assert call(here, command) == 0
    (path,) = here.root.joinpath(folder).glob(f"{command.split(maxsplit=1)[0]}.run.json")
    (record,) = json.loads(path.read_text(encoding="utf-8"))["record"]

    assert record["outputs"] == {name: file_digest(path.with_name(name)) for name in outputs}


def test_what_a_single_test_example_cannot_tell_is_null(here: Here) -> None:
    single("synthetic")(here)
    assert call(here, f"evaluate {JOB}") == 0
    metrics = json.loads((here.root / METRICS).read_text(encoding="utf-8"))

    assert {name for name, value in metrics.items() if value is None} >= {"nll_stderr", "mi", "au", "mpd"}
    assert None not in (metrics["nll"], metrics["kl"], metrics["ce"])


def test_there_are_forty_kinds_and_more() -> None:
    assert len(KINDS) >= 40
    # Every kind must name its place and its mistake. An expectation may be empty, because some mistakes have none.
    assert all(kind.where and kind.wrong for kind in KINDS.values())
