"""Use cases of a model's owner: withdraw it, download it, replace its download link."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from orchestration.domain.credentials import new_download_key
from orchestration.domain.entities import Caller
from orchestration.domain.errors import Conflict, InvalidRequest, NotFound
from orchestration.domain.ports import Clock, DownloadLinks, ModelForm, Models


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelService:
    """Use cases of models. `presign(model_id, form)` returns a URL of the file in the bucket."""

    models: Models
    links: DownloadLinks
    presign: Callable[[str, ModelForm], str]
    clock: Clock

    def withdraw(self, model_id: str, *, caller: Caller) -> str:
        """End the training of a model and return its id. Raises NotFound, AccessDenied."""
        model = self.models.get(model_id)
        model.must_belong_to(caller)
        self.models.withdraw(model, self.clock())
        return model.model_id

    def download_url(self, model_id: str, signed_key: str, form: str = ModelForm.SAFETENSORS) -> str:
        """Return a URL of the trained model, in the form of this name, for the holder of a download link.

        `signed_key` is the link's query parameter `key`. Raises NotFound if it is forged or was replaced, and
        InvalidRequest if there is no such form.
        """
        download_key = self.links.verify(model_id, signed_key)
        model = self.models.get(model_id)
        if model.download_key is None or not hmac.compare_digest(model.download_key, download_key):
            raise NotFound("This download link is no longer valid.")
        try:
            return self.presign(model.model_id, ModelForm(form))
        except ValueError:
            raise InvalidRequest(f"form must be one of {', '.join(ModelForm)}.") from None

    def rotate_link(self, model_id: str, *, caller: Caller) -> str:
        """Return a new download link and void the old one.

        Raises NotFound, AccessDenied, Conflict, Overtaken.
        """
        model = self.models.get(model_id)
        model.must_belong_to(caller)
        if model.download_key is None:
            raise Conflict(f"Model {model.model_id!r} has no download link to replace.")
        download_key = new_download_key()
        link = self.links.link(model.model_id, download_key)
        self.models.relink(model, download_key, link)
        return link
