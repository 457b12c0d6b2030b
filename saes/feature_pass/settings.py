"""What a pass over the features keeps."""

from pydantic import Field

from interp.config import Config, Seed


class FeatureSettings(Config):
    """How much of every feature a pass keeps."""

    n_tokens: int = Field(200_000, ge=1)
    """Kept tokens to look at, about; less if the text holds less."""
    seed: Seed = 0
    """Seed of the random windows and of the draw of the text."""
    n_top: int = Field(20, ge=1)
    """Strongest windows per feature."""
    n_random: int = Field(10, ge=0)
    """Windows per feature around firings drawn uniformly."""
    n_bands: int = Field(5, ge=1)
    """Bands of equal count of the firing values."""
    per_band: int = Field(5, ge=0)
    """Windows drawn from each band."""
    window: int = Field(32, ge=1)
    """Tokens per window."""
    n_partners: int = Field(10, ge=0)
    """Co-active features kept per feature."""
    n_neighbours: int = Field(10, ge=0)
    """Nearest decoder rows kept per feature."""
    n_parents: int = Field(5, ge=0)
    """Matryoshka parents kept per feature."""
    n_children: int = Field(20, ge=0)
    """Matryoshka children kept per feature."""

    @property
    def shown_tokens(self) -> int:
        """Tokens in all windows of a feature."""
        return (self.n_top + self.n_random + self.n_bands * self.per_band) * self.window

    def layout(self) -> dict[str, int]:
        """Windows of each kind, and their width."""
        return {
            "top": self.n_top,
            "random": self.n_random,
            "quantile": self.n_bands * self.per_band,
            "width": self.window,
        }
