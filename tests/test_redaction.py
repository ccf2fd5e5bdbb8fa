# SPDX-License-Identifier: Apache-2.0
"""No secret survives, however it is told; what is none stays as it is; and neither takes long."""

from __future__ import annotations

import io
import json
import logging
import re
import shlex
import string
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_hwmetrics import redaction
from otel_hwmetrics.alerts.builtin import RULES
from otel_hwmetrics.catalog import METRICS
from otel_hwmetrics.config import OPTIONS
from otel_hwmetrics.redaction import REDACTED, data, is_secret, place, text, url
from otel_hwmetrics.sources.linux.mounts import Mount
from otel_hwmetrics.sources.system.filesystems import Filesystem

SECRET_NAMES = (
    *("password", "DB_PASSWORD", "PGPASSWORD", "passwd", "api_key", "apiKey", "X-Api-Key", "api-key", "WANDB_API_KEY"),
    *(
        "token",
        "HF_TOKEN",
        "access_token",
        "accessToken",
        "GITHUB_TOKEN_2",
        "secret",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
    ),
    *(
        "AWS_ACCESS_KEY_ID",
        "private_key",
        "credentials",
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "Set-Cookie",
    ),
    *(
        "auth",
        "MYSQL_PWD",
        "smtp_pass",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "SENTRY_DSN",
        "SLACK_WEBHOOK",
        "x-honeycomb-team",
    ),
    *(
        "OTEL_PYTHON_HWMETRICS_NOTIFY",
        "signoz-ingestion-key",
        "AZURE_STORAGE_KEY",
        "session_token",
        "jwt",
        "passphrase",
    ),
)
PLAIN_NAMES = (
    *(
        "max_tokens",
        "max_token",
        "num_tokens",
        "eos_token",
        "eos_token_id",
        "pad_token",
        "token_ids",
        "tokenizer",
        "tokens",
    ),
    *(
        "tokenizer_path",
        "token_count",
        "TOKENIZERS_PARALLELISM",
        "author",
        "authors",
        "key",
        "keys",
        "cache_key",
        "pass",
    ),
    *(
        "forward_pass",
        "PWD",
        "OLDPWD",
        "PATH",
        "CUDA_VISIBLE_DEVICES",
        "lr",
        "batch_size",
        "monkey",
        "secondary",
        "keyboard",
    ),
    *(
        "prompt_token",
        "eot_token",
        "token_dispatcher",
        "moe_token_dispatcher_type",
        "token_latency",
        "token_per_gpu",
        "token_drop_policy",
    ),
    *("input_tokens", "token_dropout", "patience", "pattern", "spatial", "compass", "num_pass", "auth_enabled", "path"),
)

LETTERS = string.ascii_letters + string.digits
NUMBER = re.compile("[-+0-9.,/e]+")  # which is none behind `token`
# Marks that may follow a letter in it; what ends a word or an address in one form is left to the forms that take it.
WORDS = st.text(LETTERS + "_~.-", min_size=6, max_size=40).filter(
    lambda word: word[0] in LETTERS and not NUMBER.fullmatch(word)
)
PHRASES = st.text(LETTERS + " \\\"'!$%&()*+,-./:;<=>?@[]^_`{|}~", min_size=8, max_size=60).filter(
    lambda word: word[0] in LETTERS and word[-1] in LETTERS and len(set(word)) > 3 and not NUMBER.fullmatch(word)
)

IN_TEXT: tuple[Callable[[str, str], str], ...] = (
    lambda name, secret: f"{name}={secret}",
    lambda name, secret: f"export {name}={secret}; python train.py",
    lambda name, secret: f"{name}: {secret}",
    lambda name, secret: f"--{name}={secret} --lr 0.1",
    lambda name, secret: f"train.py --{name} {secret} --lr 0.1",
    lambda name, secret: f"-{name}\t{secret}",
    lambda name, secret: f"curl -H '{name}: {secret}' https://example.com/",
    lambda name, secret: f"{{{name} => {secret}}}",
    lambda name, secret: f"GET / HTTP/1.1\r\n{name}: {secret}\r\nHost: example.com\r\n",
    lambda name, secret: f"https://example.com/path?a=1&{name}={secret}&b=2",
    lambda name, secret: f"https://example.com/#{name}={secret}",
    lambda name, secret: f'client = Client("x", {name}={secret!r}, retries=3)',
    lambda name, secret: f'{name} = """{secret}"""',
    lambda name, secret: f"{name}={secret[:3]}'{secret[3:]}'",
    lambda name, secret: f"os.environ['{name}'] = '{secret}'; headers[\"{name}\"]='{secret}'",
    lambda name, secret: f"{name}: |\n  {secret}\n  {secret}\nuser: me",
    lambda name, secret: f"  {name}:\n    - {secret}\n    - user: {secret}\n  user: me",
    lambda name, secret: f"Server=h;{name}={secret};",
)
"""A secret without blanks, behind a name, in a text."""

QUOTED_IN_TEXT: tuple[Callable[[str, str], str], ...] = (
    lambda name, secret: json.dumps({"a": 1, name: secret, "b": [2]}),
    lambda name, secret: repr({"a": 1, name: secret, "b": [2]}),
    lambda name, secret: repr([("Accept", "*/*"), (name, secret)]),
    lambda name, secret: f"KeyError: { ({name: secret})!r}",
    lambda name, secret: shlex.join(["train.py", f"--{name}", secret, "--lr", "0.1"]),
    lambda name, secret: json.dumps({"a": {name: ["x", {"y": secret}]}, "b": [2]}),
    lambda name, secret: repr({name: {"user": "me", "value": secret}, "b": (2,)}),
    lambda name, secret: json.dumps({name: [1, secret]}, indent=2),
    lambda name, secret: json.dumps(json.dumps({"a": 1, name: secret, "b": [2]})),
    lambda name, secret: json.dumps(json.dumps(json.dumps({name: secret}))),
    lambda name, secret: f"post(url, {name}=('me', {secret!r}), timeout=3)",
    lambda name, secret: f"post(url, {name}=Basic('me', {secret!r}), timeout=3)",
    lambda name, secret: f"{name}={shlex.quote(secret)} python train.py",
)
"""Any secret, behind a name, quoted in a text."""

BY_ITS_PLACE: tuple[Callable[[str], str], ...] = (
    lambda secret: f"https://user:{secret}@example.com/path",
    lambda secret: f"https://{secret}@example.com/path",
    lambda secret: f"fatal: unable to access 'https://{secret}:x-oauth-basic@github.com/a/b.git/': 403",
    lambda secret: f"postgresql+psycopg://user:{secret}@db:5432/runs",
    lambda secret: f"redis://:{secret}@cache:6379/0",
    lambda secret: f"proxy user:{secret}@proxy.example.com:3128 refused",
    lambda secret: f"see https://hooks.slack.com/services/T0000/B0000/{secret}.",
    lambda secret: f"https://discord.com/api/webhooks/1234/{secret}?wait=true",
    lambda secret: f"https://mattermost.example.com/hooks/{secret}",
    lambda secret: f"https://api.telegram.org/bot1234:{secret}/sendMessage",
    lambda secret: f"https://storage.example.com/b/o?X-Amz-Signature={secret}&X-Amz-Date=1",
    lambda secret: f"https://blob.example.com/c?sv=1&sig={secret}",
    lambda secret: f"https://maps.example.com/api?key={secret}",
    lambda secret: f"slack://{secret}/B/C/#channel",
    lambda secret: f"option 'notify' is ['mailto://me:{secret}@example.com', 'ntfy://{secret}']",
    lambda secret: f"Authorization: Bearer {secret}",
    lambda secret: f"header Bearer {secret}, refused",
    lambda secret: f"Cookie: a=1; session={secret}; b=2",
    lambda secret: f"Authorization: Digest username=x, response={secret}",
    lambda secret: f'Authorization: Digest username="x", realm="y", response="{secret}"',
    lambda secret: (
        f'curl -H \'Authorization: AWS4-HMAC-SHA256 Credential="x", Signature="{secret}"\' https://example.com'
    ),
    lambda secret: f'Cookie: a="1"; b={secret}',
    lambda secret: f"Cookie: 3; b={secret}",
    lambda secret: f"Cookie: 3 ; b={secret}",
    lambda secret: f"login as me@example.com:{secret}@smtp.example.com failed",
    lambda secret: (
        f"https://me:p#{secret}@example.com/x and https://me:p?{secret}@example.com and https://me:p/{secret}@h"
    ),
    lambda secret: f"me:p@{secret}@example.com and //me:{secret}@example.com/x",
    lambda secret: json.dumps(f"https://me:{secret}@example.com/x").replace("/", "\\/"),
    lambda secret: f"https://events.pagerduty.com/integration/{secret}/enqueue",
    lambda secret: f"https://x.environment.api.powerplatform.com/automations/workflows/{secret}/triggers?sig={secret}",
    lambda secret: f"Max retries exceeded with url: /webhook/{secret} (Caused by x)",
    lambda secret: f"Max retries exceeded with url: /v1/spaces/A/messages?key={secret} (Caused by x)",
    lambda secret: f"Max retries exceeded with url: /workflows/{secret}abcdef/triggers/manual?sig={secret}",
    lambda secret: f"KAGGLE_KEY={secret}; api_tokens=['x', '{secret}']; Pwd={secret}",
    lambda secret: f"https://example.com/?%74oken={secret}&a[token]={secret}",
    lambda secret: f"-----BEGIN RSA PRIVATE KEY-----\nMIIE\n{secret}\n-----END RSA PRIVATE KEY-----",
    lambda secret: f"-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}",
)
"""A secret by where it stands."""

ALPHABET = st.text(LETTERS, min_size=24, max_size=40).filter(lambda key: re.search("[A-Z0-9]", key[:8]) is not None)
"""As keys are: there is a digit or a capital in each."""
BY_ITS_FORM: tuple[Callable[[str], str], ...] = (
    *(lambda secret, prefix=prefix: f"{prefix}{secret}" for prefix in ("hf_", "ghp_", "gho_", "github_pat_", "glpat-")),
    *(lambda secret, prefix=prefix: f"{prefix}{secret}" for prefix in ("sk-", "sk-proj-", "sk-ant-api03-", "sk_live_")),
    *(
        lambda secret, prefix=prefix: f"{prefix}{secret}"
        for prefix in ("xoxb-", "npm_", "pypi-", "nvapi-", "AIza", "hvs.")
    ),
    lambda secret: f"AKIA{secret.upper()[:16]}",
    lambda secret: f"eyJ{secret}.eyJ{secret}.{secret}",
)
"""A key that is known by how it begins."""


@settings(max_examples=60)
@given(
    name=st.sampled_from(SECRET_NAMES),
    told=st.sampled_from(IN_TEXT),
    secret=WORDS,
    before=st.sampled_from(("", "error: ")),
)
def test_a_secret_behind_a_name_does_not_survive(
    name: str, told: Callable[[str, str], str], secret: str, before: str
) -> None:
    """In a command line, an environment, a header, an address, a line of code."""
    given_text = before + told(name, secret)
    assert secret not in text(given_text).replace(REDACTED, ""), given_text
    assert REDACTED in text(given_text)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_each_name_of_a_secret_is_known_in_each_form(name: str) -> None:
    """So that no pair is left to chance."""
    for told in (*IN_TEXT, *QUOTED_IN_TEXT):
        assert "hunter2" not in text(told(name, "hunter2")), told(name, "hunter2")


@settings(max_examples=60)
@given(name=st.sampled_from(SECRET_NAMES), told=st.sampled_from(QUOTED_IN_TEXT), secret=PHRASES)
@example(name="token", told=QUOTED_IN_TEXT[-1], secret="it's a 'secret'")  # noqa: S106
@example(name="token", told=QUOTED_IN_TEXT[-1], secret="x\\'=j?2e_qZ\"(pR4a|)cw+kPap")  # noqa: S106
def test_a_quoted_secret_does_not_survive(name: str, told: Callable[[str, str], str], secret: str) -> None:
    """Whatever marks are in it: JSON, Python, a shell."""
    given_text = told(name, secret)
    left = text(given_text)
    assert secret not in left, given_text
    assert json.dumps(secret)[1:-1] not in left, given_text
    # Nor a long part of it.
    assert not any(secret[at : at + 6] in left.replace(REDACTED, "") for at in range(len(secret) - 5)) or any(
        secret[at : at + 6] in told(name, "") for at in range(len(secret) - 5)
    ), (given_text, left)


@settings(max_examples=60)
@given(told=st.sampled_from(BY_ITS_PLACE), secret=st.text(LETTERS + "_-", min_size=10, max_size=40).filter(str.isalnum))
def test_a_secret_in_a_secret_place_does_not_survive(told: Callable[[str], str], secret: str) -> None:
    """Before the @ of an address, in a webhook's path, in a signature, in a PEM block."""
    assert secret not in text(told(secret))
    assert secret not in text(f"Failed: {told(secret)}")


@settings(max_examples=40)
@given(
    told=st.sampled_from(BY_ITS_FORM),
    secret=ALPHABET,
    around=st.sampled_from(("{}", "'{}'", "got {}, refused", "({})", "x={}")),
)
def test_a_key_does_not_survive_wherever_it_stands(told: Callable[[str], str], secret: str, around: str) -> None:
    """Its form tells it."""
    key = told(secret)
    assert key[8:] not in text(around.format(key))


@settings(max_examples=60)
@given(
    name=st.sampled_from(SECRET_NAMES), secret=PHRASES, joined=st.booleans(), dashes=st.sampled_from(("--", "-", ""))
)
def test_no_argument_of_a_program_is_a_secret(name: str, secret: str, joined: bool, dashes: str) -> None:  # noqa: FBT001
    """``--api-key=X``, ``--token X``, ``--token -X``, ``KEY=VALUE``; the others stay."""
    arguments = [f"{dashes}{name}={secret}"] if joined or not dashes else [f"{dashes}{name}", secret]
    told = data(["train.py", "--lr", "0.1", *arguments, "--steps", "5"])
    assert not any(secret in each for each in told)
    assert told[:3] == ["train.py", "--lr", "0.1"]
    assert told[-2:] == ["--steps", "5"]


@settings(max_examples=40)
@given(secrets=st.dictionaries(st.sampled_from(SECRET_NAMES), PHRASES, max_size=4))
def test_no_value_of_an_environment_is_a_secret(secrets: dict[str, str]) -> None:
    """Nor of headers; names stay, and what is no secret."""
    told = data({**secrets, "PATH": "/bin", "PIP_INDEX_URL": "https://me:hunter2@example.com/simple"})
    assert told == {
        **dict.fromkeys(secrets, REDACTED),
        "PATH": "/bin",
        "PIP_INDEX_URL": f"https://{REDACTED}@example.com/simple",
    }


def test_data_keeps_its_shape() -> None:
    """Texts in it, and what stands behind secret keys, are redacted; numbers, switches and names stay."""
    told = data(
        {
            "argv": ["--token=hunter2", ("https://me:hunter2@example.com", 5)],
            "headers": {"X-Api-Key": "hunter2", "Accept": "*/*"},
            "argv too": ["--password", "-hunter2", "--token", "--lr", "0.1"],
            "password": ["hunter2"],
            "tokens": {"token": 512, "password": 512},
            "token": None,
            "auth": True,
            1: {"a": 1.5, "token=hunter2": "x"},
        }
    )
    assert told == {
        "argv": [f"--token={REDACTED}", [f"https://{REDACTED}@example.com", 5]],
        "headers": {"X-Api-Key": REDACTED, "Accept": "*/*"},
        "argv too": ["--password", REDACTED, "--token", "--lr", "0.1"],
        "password": REDACTED,
        "tokens": {"token": 512, "password": REDACTED},
        "token": None,
        "auth": True,
        1: {"a": 1.5, f"token={REDACTED}": REDACTED},
    }
    deep: list[object] = ["hunter2"]
    for _ in range(5000):
        deep = [deep]
    assert "hunter2" not in json.dumps(data(deep))


@pytest.mark.parametrize("name", PLAIN_NAMES)
def test_a_name_that_sounds_like_a_secret_is_none(name: str) -> None:
    """A job's options are full of them."""
    assert not is_secret(name)
    for told in IN_TEXT:
        if "?a=1&" not in (line := told(name, "512")) and "/#" not in line:  # there a key is a key
            assert text(line) == line


PLACES = (
    *(
        "/scratch/hf_home/hub/models--meta-llama",
        "/mnt/hf-cache/datasets/imagenet",
        "/mnt/hf-cache/datasets/c4-en-data",
    ),
    *("/data/sk-learn/datasets/covtype", "/runs/r8_runs/2026-11-28/exp1", "/data/npm_packages/registry/cache-2026"),
    *(
        "/data/token=512/sk-abcdefghijklmnop1234",
        "/run/secrets/hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
        "/x/--token y",
    ),
    *("10.10.1.1@o2ib:10.10.1.2@o2ib:/scratch", "me@node:/data", "pool/data@snap:1", "nas:/export/password=x"),
    *("lance://bucket/train", "lance://bucket/test", "s3://bucket/key=5/part-0.parquet", "C:\\data\\secrets: x"),
)


@pytest.mark.parametrize("name", PLACES)
def test_a_place_keeps_its_name(name: str) -> None:
    """Mount points, devices, data sets: else the series of two of them would become one."""
    assert place(name) == name


def test_two_file_systems_stay_two() -> None:
    """With the attributes of each, whatever they are called."""
    mounts = (Mount("0:31", "/", name, True, "nfs4", f"nas:{name}") for name in PLACES)
    told = {str(sorted(Filesystem(mount).limit.attributes.items())) for mount in mounts}
    assert len(told) == len(PLACES)


def test_a_place_is_told_without_the_password_in_it() -> None:
    """Where one is in its address; nothing else of it is left out."""
    assert place("https://me:hunter2@dav.example.com/data") == f"https://{REDACTED}@dav.example.com/data"
    assert place("lance://me:hunter2@bucket/train?sig=hunter2") == f"lance://{REDACTED}@bucket/train?sig={REDACTED}"
    assert place("me:hunter2@nas/data") == f"me:{REDACTED}@nas/data"


@pytest.mark.parametrize(
    "plain",
    [
        "",
        "GPU 1 (NVIDIA H100 80GB HBM3) has been at 92 °C for 30 s (above 90 °C). Check its fan and its airflow.",
        'File "/home/me/train.py", line 12, in step\n    loss = model(batch["input_ids"], labels=batch["labels"]).loss',
        "RuntimeError: CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.78 GiB total; max_split_size_mb=128)",
        "see https://docs.pytorch.org/memory_viz?x=1#top, s3://bucket/key=5/part-0.parquet and file:///data/a",
        "http://localhost:4318/v1/metrics, grpc://collector:4317, tcp://10.0.0.1:29500, ssh://git@github.com/a/b",
        "git@github.com:a/b.git pytorch/pytorch:2.4@sha256:0123abcd user@host me@example.com",
        "2026-11-28T10:15:03Z INFO [rank 3] step=120 loss=0.31 tokens/s: 51234 lr: 1e-4",
        "GPU-4f8a1c2e-1f6f-9d0e-1b7a-0c1d2e3f4a5b MIG-GPU-x/1/0 pci 0000:3b:00.0",
        "option 'sample_interval' is '1x' (in hwmetrics.toml); it takes 0, or seconds, a number >= 0.2, or as 5m",
        "it takes a list of Apprise addresses (slack://…, mailto://…), or one text of them, separated by spaces",
        "//server/share 10.1.1.1:/export /dev/nvme0n1p2 overlay",
        'File "/usr/lib/python3.11/secrets.py", line 12, in token_hex\n  File "/home/me/auth.py", line 4, in auth',
        "secrets.py:12 /var/run/secrets: mounted /dev/sas0: 3 http://localhost:8080/@me",
        "--moe-token-dispatcher-type alltoall --token_dispatcher flex eot_token=<|eot|> token_latency=0.1 token_per_gpu=x",
        "token: 5/512, auth=True, token=3 cookies: 3\n'token': None, {'auth': false} pat=0.3",
        "gpu:0@node7 worker:12@node5 10:20:30@node1 Basic training1 is done, basic block3",
        "hf_llama_checkpoint_converter_v2 sk-learn-pipeline-with-scaler sk_train.run.something.else r8_runs_of_last_week_v2",
        "npm_config_registry_for_tests_x pypi-simple-index-client-library lin_api_linear_api_backend_module dapi_config",
        *(f"read {path} again" for path in PLACES[:6]),
    ],
)
def test_what_has_no_secret_stays_as_it_is(plain: str) -> None:
    """Log lines, tracebacks, addresses, names of devices."""
    assert text(plain) == plain


def test_what_the_package_says_of_itself_stays_as_it_is() -> None:
    """Rules, metrics, errors of the driver, options: each text that is told to people."""
    told = [words for rule in RULES for words in (rule.message, rule.advice)]
    told += [metric.description for metric in METRICS]
    told += [words for option in OPTIONS.values() for words in (option.allowed, option.help)]
    assert [words for words in told if text(words) != words] == []


@settings(max_examples=100)
@given(st.lists(st.text(string.ascii_lowercase, max_size=9).filter(lambda word: not is_secret(word)), max_size=20))
def test_words_stay_as_they_are(words: list[str]) -> None:
    """Any, as long as none of them is one of the table's."""
    plain = " ".join(words)
    assert text(plain) == plain
    assert data(words) == words


@settings(max_examples=150)
@given(st.text() | st.text("token= :'\"\\\n-/@?&{}[]AKIAeyJ.sk_") | st.text(st.characters()))
def test_nothing_is_too_odd(odd: str) -> None:
    """Nothing raises, and what is redacted once is redacted."""
    told = text(odd)
    assert text(told) == told
    assert isinstance(url(odd), str)
    assert data([odd, odd]) == data(data([odd, odd]))
    data({odd: odd})
    place(odd)


MILLION = 1_000_000
LONG: dict[str, str] = {
    "a word": "a" * MILLION,
    "dashes": "-" * MILLION,
    "equals signs": "=" * MILLION,
    "quotes": '"' * MILLION,
    "lines": "\n" * MILLION,
    "colons": "a:" * (MILLION // 2),
    "quotes that do not close": 'password="' * (MILLION // 10),
    "escaped quotes": 'password="\\""' * (MILLION // 13),
    "triple quotes": "password='''" * (MILLION // 12),
    "blanks behind a name": "password" + " " * MILLION,
    "tabs behind a flag": "--token" + "\t" * MILLION,
    "addresses": "http://" * (MILLION // 7),
    "parameters": "https://h/?" + "token=a&" * (MILLION // 8),
    "paths of hooks": "https://h" + "/hooks" * (MILLION // 6),
    "users": "a:b@" * (MILLION // 4),
    "a long user": "u" * 64 + ":" + "x" * MILLION,
    "tokens": "eyJ" * (MILLION // 3),
    "dots": "eyJaaaaaaaa." + "." * MILLION,
    "keys": "sk-" * (MILLION // 3),
    "bearers": "bearer " * (MILLION // 7),
    "basics": "basic " + "a" * MILLION,
    "blocks": "-----BEGIN PRIVATE KEY-----" * (MILLION // 27),
    "a block of dashes": "-----BEGIN PRIVATE KEY-----" + "-" * MILLION,
    "headers": "authorization: " * (MILLION // 15),
    "secrets": "token=x " * (MILLION // 8),
    "brackets": "token=[" * (MILLION // 7),
    "brackets on lines": "token=[\n" * (MILLION // 8),
    "brackets in brackets": "token=" + "[" * MILLION,
    "escaped quotes in brackets": 'token=["' + '\\"' * (MILLION // 2),
    "quotes in quotes": 'token=\\"x\n' * (MILLION // 9),
    "blocks of lines": "token: |\n  x\n" * (MILLION // 13),
    "further and further in": "".join(" " * (number % 150) + "token:\n" for number in range(MILLION // 80)),
    "keys without an end": "sk-" + "a-" * (MILLION // 2),
    "parameters without an address": "a?token=x&" * (MILLION // 10),
    "names": "".join(f"name{number}=v " for number in range(MILLION // 11)),
}


@pytest.mark.parametrize("name", LONG)
def test_it_takes_time_in_proportion(name: str) -> None:
    """A tenth of a million letters and a million: not a hundred times as long, whatever they are."""

    def seconds(given_text: str) -> float:
        began = time.process_time()
        text(given_text)
        return time.process_time() - began

    long = LONG[name]
    tenth = min(seconds(long[: len(long) // 10]) for _ in range(2))
    assert seconds(long) < max(50 * tenth, 0.5)


def test_of_a_long_text_the_middle_is_left_out() -> None:
    """No other thread runs while a pattern is looked for; what is a secret at either end is one, and a key in the middle, too."""
    lines = "loss is 0.3 and the rest is text, x=1\n" * 30_000
    key = "-----BEGIN PRIVATE KEY-----\n" + "hunter2\n" * 9000 + "-----END PRIVATE KEY-----\n"
    told = text(f"token=hunter2\n{lines}{key}token=hunter2\n")
    assert len(told) < 70_000
    assert "hunter2" not in told
    assert "letters are left out" in told
    assert told.startswith(f"token={REDACTED}\nloss is")
    assert told.endswith(f"{REDACTED}\ntoken={REDACTED}\n")
    assert text(told) == told
    assert "hunter2" not in text("x" * 200_000 + "\ntoken=hunter2")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What a handler of a logger of ours writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = redaction.logger("otel_hwmetrics.of_this_test")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)


def urlopen(address: str) -> None:
    """Fail as a library does."""
    raise ConnectionError(f"{address} is out of reach")


def test_no_line_of_ours_has_a_secret(written: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """Neither in its words nor in its arguments nor in the exception that it tells of, nor in those behind that."""
    logger = redaction.logger("otel_hwmetrics.of_this_test")

    def fail() -> None:
        try:
            urlopen("https://me:hunter2@example.com/?token=hunter2")
        except ConnectionError as error:
            raise ValueError({"password": "hunter2"}) from error

    try:
        fail()
    except ValueError as error:
        logger.warning("Failed with --api-key %s: %s", "hunter2", {"token": "hunter2"}, exc_info=error)
    assert "hunter2" not in written.getvalue()
    assert "Traceback" in written.getvalue()
    assert "ConnectionError" in written.getvalue()
    [record] = caplog.records
    assert "hunter2" not in repr(record.__dict__)
    assert record.__dict__["exception.type"] == "ValueError"
    assert record.__dict__["exception.stacktrace"] in written.getvalue()


class Unspeakable(Exception):
    """One that cannot be made text."""

    def __str__(self) -> str:
        raise RuntimeError("token=hunter2")

    __repr__ = __str__


def test_what_cannot_be_made_text_does_no_harm(written: io.StringIO) -> None:
    """Logging does not catch what a filter raises: it would end the training, from a thread of its own."""
    logger = redaction.logger("otel_hwmetrics.of_this_test")
    logger.warning("Failed: %s", Unspeakable())
    logger.warning("Failed.", exc_info=Unspeakable())
    logger.warning("%d", "no number")
    first, *_, last = written.getvalue().splitlines()
    assert re.fullmatch(r"what was to be said at test_redaction:\d+ cannot be made text", first)
    assert first.split(":")[0] == last.split(":")[0]
    assert "Failed.\n" in written.getvalue()
    assert "Unspeakable" in written.getvalue()
    assert "hunter2" not in written.getvalue()


def test_a_logger_of_ours_is_one(written: io.StringIO) -> None:
    """However often it is asked for; a line without a secret is as it was."""
    filters = tuple(redaction.logger("otel_hwmetrics.of_this_test").filters)
    assert tuple(redaction.logger("otel_hwmetrics.of_this_test").filters) == filters
    logging.getLogger("otel_hwmetrics.of_this_test").warning("%d GPU(s) of %s", 8, "node-1")
    assert written.getvalue() == "8 GPU(s) of node-1\n"
