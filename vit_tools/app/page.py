"""The page itself, in Gradio."""

from typing import Any

from vit_tools.app.local_only import LocalOnly
from vit_tools.app.looking import Looked, NotFinite, difference, heat, labels_of, look, num_layers
from vit_tools.images import Corrupt, open_images
from vit_tools.model import Framework, Model

NOTHING = "Drop a photo."


def make_page(models: dict[Framework, Model]) -> Any:
    """Gradio's Blocks: a photo in; labels of each framework, their difference, and heat by layer and head."""
    import gradio  # pyright: ignore[reportMissingImports]: an extra of its own

    first = next(iter(models.values()))
    layers, heads = num_layers(first.config), first.config.num_heads
    named = "layer" if layers == first.config.depth else f"layer ({layers}: attention pooling)"

    def shown(looked: Looked | None, layer: float, head: float) -> Any:
        if looked is None:
            return None
        return heat(looked, first.preprocess, int(layer) - 1, None if not head else int(head) - 1)

    def dropped(path: str | None, layer: float, head: float) -> list[Any]:
        if path is None:
            return [None, *({} for _ in models), NOTHING, None]
        photo = next(open_images([path], first.preprocess))
        if isinstance(photo, Corrupt):
            raise gradio.Error(f"can't be read: {photo.why}")
        try:
            looked = look(photo.picture, models)
        except NotFinite as error:
            raise gradio.Error(f"can't be answered: {error}") from error
        said = [labels_of(looked, framework, model) for framework, model in models.items()]
        return [looked, *said, difference(looked, first.has_labels), shown(looked, layer, head)]

    with gradio.Blocks(title="vit-parity", analytics_enabled=False) as page:
        gradio.Markdown(
            f"## {first.path}\nOne checkpoint in PyTorch and in Flax: what both say, and what it looked at."
        )
        kept = gradio.State(None)
        with gradio.Row():
            # The file as it was dropped: Gradio's own reading loses transparency, and clips 16 bits to white.
            photo = gradio.Image(type="filepath", image_mode=None, label="photo", elem_id="photo", height=360)
            seen = gradio.Image(label="attention", elem_id="attention", interactive=False, height=360)
        with gradio.Row():
            layer = gradio.Slider(1, layers, value=layers, step=1, label=named, elem_id="layer")
            head = gradio.Slider(0, heads, value=0, step=1, label="head (0: all averaged)", elem_id="head")
        with gradio.Row():
            said = [gradio.Label(label=name, num_top_classes=5, elem_id=f"labels-{name}") for name in models]
        apart = gradio.Textbox(NOTHING, label="between the two", interactive=False, elem_id="difference")
        photo.change(dropped, [photo, layer, head], [kept, *said, apart, seen])
        for slider in (layer, head):
            slider.change(shown, [kept, layer, head], seen, show_progress="hidden")
    return page


def launch(page: Any, host: str, port: int | None, wait: bool = True) -> str:
    """Serves the page, which is `LocalOnly`, until Ctrl-C; without `wait` beside what goes on. Returns its address.

    Raises:
        OSError: nothing can listen there.
    """
    from starlette.middleware import Middleware  # pyright: ignore[reportMissingImports]: Gradio brings it

    _, address, _ = page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        prevent_thread_lock=not wait,
        ssr_mode=False,  # a server of Node's would answer without the header
        app_kwargs={"middleware": [Middleware(LocalOnly)]},
    )
    return address
