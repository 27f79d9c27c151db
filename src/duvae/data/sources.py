"""Lists the known files of the data sets, each with its address and checksum.

The name of a known file is its path below a mirror, such as `short_yelp/vocab.txt`. A mirror is a folder or a URL with
copies of known files. A path that is not in `SOURCES` is a file of the user.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Address and checksum of one file.

    Attributes:
        checksum: Checksum of the file as `algorithm:digest`; None: the checksum is unknown, so that any file is
            accepted.
        url: Address of the file, or of the archive that holds the file; None: only a mirror can have the file.
        member: End of the file's path inside the tar.gz archive at `url`. None: `url` is the address of the file
            itself.
    """

    checksum: str | None
    url: str | None
    member: str | None = None


def _drive(identity: str) -> str:
    return f"https://drive.usercontent.google.com/download?id={identity}&export=download&confirm=t"


# _YAHOO and _YELP are archives of He et al. (2019). _SHORT_YELP is an archive of the authors of the DU-VAE paper.
_YAHOO = _drive("13azGlTuGdzWLCmgDmQPmvb_jcexVWX7i")
_YELP = _drive("1FT49oLNV8syhmGXEgiK6XTjEfMNqqEJJ")
_SHORT_YELP = _drive("18h8UYr801qr-USCYRzZySi_DSbUkHW71")
_SENTIMENT = "https://raw.githubusercontent.com/shentianxiao/language-style-transfer/master/data/yelp/"
_LAKE = "https://raw.githubusercontent.com/brendenlake/omniglot/master/"
_LAKE_ARRAYS = "https://raw.githubusercontent.com/bitsandscraps/omniglot/master/"
_BURDA = "https://github.com/yburda/iwae/raw/master/datasets/OMNIGLOT/"


def _members(folder: str, url: str, checksums: Mapping[str, str | None]) -> dict[str, Source]:
    return {
        f"{folder}/{name}": Source(digest and f"sha256:{digest}", url, f"{folder}_data/{name}")
        for name, digest in checksums.items()
    }


def _files(folder: str, url: str, checksums: Mapping[str, str | None]) -> dict[str, Source]:
    return {f"{folder}/{name}": Source(known, url + name) for name, known in checksums.items()}


SOURCES: Mapping[str, Source] = {
    **_members(
        "short_yelp",
        _SHORT_YELP,
        {
            "short_yelp.train.txt": None,
            "short_yelp.valid.txt": "34240114bd7b8b8b016c2ea033aaf7efefbc4e5be5aa7c53f95e03260c631521",
            "short_yelp.test.txt": "56dc9c763128e315b167870ba6714c0f528b335855b7cc469ab3018457daddeb",
            "short_yelp.train.100.txt": "eb17b8855e8307badf3f4a50b467268ae21c3ec471a9d2f7a152eceff5e7a91c",
            "short_yelp.train.500.txt": "a11eb4bdea7bc5e58d1d316744c61d42da5a7467e4babef51c2cc5d839565a05",
            "short_yelp.train.1000.txt": "ceba2d95fd4ea802d2b0f873d34aff5289a453e7c3ecd63669c7186d2a077fb6",
            "short_yelp.train.2000.txt": "f91ae9deaffee1943c6308f9b723dab00bb87fa10c39a5fe7ec9fb9a1197716f",
            "short_yelp.train.10000.txt": "db61555383043e4032443c9a04bffe2129c8e181f596e437c9c9b56292578c06",
            "vocab.txt": "552cad81f06191dd85b10f820e8ff142846b5d594e591cf709edba7a88c7bcac",
        },
    ),
    **_members(
        "yahoo",
        _YAHOO,
        {
            "yahoo.train.txt": None,
            "yahoo.valid.txt": "6129c0622bd0a12b092814e7b660f70c20481788f42860d980431c0a614006ef",
            "yahoo.test.txt": "54dd2d2de3843cc701faebf793ab72253ff2286b00879d25790ad087a74917a1",
            "vocab.txt": "8f4cf601bc7e5c3acf8b7e712e3c8e39fe330147e12682291c462b5b2ac0a73a",
        },
    ),
    **_members(
        "yelp", _YELP, {"yelp.train.txt": None, "yelp.valid.txt": None, "yelp.test.txt": None, "vocab.txt": None}
    ),
    **_files(
        "yelp_sentiment",
        _SENTIMENT,
        {
            "sentiment.dev.0": "sha256:405ef6d4bfbc8bb92c3c55b496f315069cb5edb49ed34a07b1206341b83c344b",
            "sentiment.dev.1": "sha256:3509f6573411bbda2d5c071ed72ad276c12356c15c06205b8fdf74b217970c61",
            "sentiment.test.0": "sha256:b7466e8859e9948892a859af7938a82c801c99b69f884014082fd072a155bbf2",
            "sentiment.test.1": "sha256:a66e0ec3f0e1230ad4d2c822750a381cf6d99a99fa9b5ae79546f21ff79ed5c3",
        },
    ),
    **_files(
        "omniglot",
        _LAKE_ARRAYS,
        {
            "images_background.npz": "sha256:8bf84167413cd00beacdce3fe582f780ab538d8dbef043a6d688f2527bbce199",
            "images_evaluation.npz": "sha256:0b84c7ffd94c4841c0040e529c86a82eaaccb986d8eadad5673f7991b7475276",
        },
    ),
    **_files("omniglot", _BURDA, {"chardata.mat": "md5:21ecaf34373511aa7691cf2e0802aa3d"}),
    **_files(
        "omniglot",
        _LAKE + "python/",
        {"images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718", "images_evaluation.zip": None},
    ),
    "omniglot/LICENSE.brendenlake": Source(
        "sha256:2efb425d9850e7bce985f151dc2ee1f4485e926a3582e08fd879cd28eb0388f5", _LAKE + "LICENSE"
    ),
}
