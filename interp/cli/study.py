"""`interp study`: published results repeated, and what a result must beat."""

import click

from interp.cli.lazy import LazyGroup

_STUDIES = {
    "matryoshka-toy": (
        "interp.cli.study_toy",
        "Do nested prefixes keep parents that a plain SAE absorbs into their children?",
    ),
    "synthetic": (
        "interp.cli.study_synthetic",
        "Which SAEs find known features, among hierarchy, correlation, superposition?",
    ),
    "null-arms": (
        "interp.cli.study_null_arms",
        "Score an SAE beside shuffled weights, a frozen decoder and other null arms.",
    ),
    "architectures": (
        "interp.cli.study_architectures",
        "Compare all architectures at one L0 on a model, null arms beside.",
    ),
    "feature-sample": (
        "interp.cli.study_features",
        "Thirty features drawn by seed, none picked by hand, beside those of null arms.",
    ),
    "name-hierarchy": (
        "interp.cli.study_names",
        "Does a latent stay silent on some names, and does Matryoshka keep it whole?",
    ),
    "name-pronoun": (
        "interp.cli.study_pronouns",
        'Which features make a story go on with "he" after Tim, "she" after Lily?',
    ),
    "planted-rule": (
        "interp.cli.study_planted",
        "Do patching, a probe and an SAE find a rule that was planted, and only then?",
    ),
    "tokfsm": ("interp.cli.study_tokfsm", "Do codes keep apart states that a model has too few neurons for?"),
    "codebook-language": (
        "interp.cli.study_codebook_language",
        "What do codebooks cost a language model, and what are they good for?",
    ),
}

_EXAMPLES = """\b
Examples:
  interp study matryoshka-toy --steps 8000 --seeds 3
  interp study synthetic --out runs/synthetic
  interp study null-arms --model ./stories260K --hook blocks.2.hook_resid_post --tokens 1M --out runs/stories
  interp study feature-sample runs/stories
  interp study name-hierarchy --out runs/names
  interp study name-pronoun --out runs/pronouns
  interp study planted-rule --out runs/planted
  interp study tokfsm --out runs/tokfsm
  interp study codebook-language --out runs/codebook_language
  interp study architectures --hook blocks.2.hook_resid_post --tokens 300k --d-sae 1024 --k 16 --out runs/architectures
"""


@click.group("study", cls=LazyGroup, modules=_STUDIES, epilog=_EXAMPLES)
def command() -> None:
    """Repeat a published result, or measure what a result must beat."""
