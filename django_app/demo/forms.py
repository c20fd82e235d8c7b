"""The one form of the demo."""

from typing import Any

from django import forms

from demo import analyses


class AnalysisForm(forms.Form):
    """Choose packages and how many documents make one job."""

    packages = forms.MultipleChoiceField(
        widget=forms.CheckboxSelectMultiple, error_messages={"required": "Choose at least one package."}
    )
    chunk_size = forms.TypedChoiceField(
        label="Documents per job",
        coerce=int,
        initial=25,
        choices=[(size, str(size)) for size in analyses.CHUNK_SIZES],
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Offer the packages that are loaded, all of them chosen."""
        super().__init__(*args, **kwargs)
        loaded = analyses.packages()
        field = self.fields["packages"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(name, f"{name} ({count:,})") for name, count in loaded]
        field.initial = [name for name, _ in loaded]
