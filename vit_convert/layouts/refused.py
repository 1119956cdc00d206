"""What stays out, refused by name and with the reason: models whose function ViTConfig can't say.

References:
    https://github.com/huggingface/pytorch-image-models timm/models/vision_transformer.py, eva.py, beit.py
    https://github.com/mlfoundations/open_clip src/open_clip/transformer.py, modified_resnet.py
    https://github.com/pytorch/vision torchvision/models/vision_transformer.py
    https://github.com/facebookresearch/deit models_v2.py, dino eval_linear.py, dinov2 and dinov3 hub/classifiers.py
    https://github.com/huggingface/transformers src/transformers/models/{beit,data2vec,dinov3_convnext,siglip2}
    https://github.com/baaivision/EVA EVA-02/asuka/modeling_finetune.py
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from vit_convert.errors import CheckpointError
from vit_convert.layouts.base import Beside
from vit_convert.rules import Shape


@dataclass(frozen=True)
class Refusal:
    """A model that is known and not read."""

    what: str
    why: str
    names: tuple[str, ...] = ()  # any of these among the tensors gives it away; one that ends with "." begins names
    model_types: tuple[str, ...] = ()  # of transformers' config.json
    architectures: tuple[str, ...] = ()  # of timm's config.json, as patterns: "beit_*"
    alone: tuple[str, ...] = ()  # or a file that has nothing but these

    def covers(self, shapes: Collection[str], kind: str, architecture: str) -> bool:
        if kind in self.model_types or any(fnmatchcase(architecture, pattern) for pattern in self.architectures):
            return True
        if self.alone and shapes and set(shapes) <= set(self.alone):
            return True
        begins = tuple(name for name in self.names if name.endswith("."))
        return any(name in self.names or (begins and name.startswith(begins)) for name in shapes)


TIMM = (
    Refusal(
        "a ViT with parallel attention and MLP (ParallelScalingBlock)",
        "attention and MLP read the same tokens at once, from one norm and one projection",
        names=("blocks.0.in_proj.weight",),
        architectures=("vit_*_xp_*", "vit_pwee_*"),
    ),
    Refusal(
        "a ViT with differential attention",
        "each head is the difference of two attention maps (Ye et al. 2024)",
        names=("blocks.0.lambda_q1", "blocks.0.attn.lambda_q1"),
        architectures=("vit_dwee_*", "vit_dlittle_*", "vit_dpwee_*"),
    ),
    Refusal(
        "a ViT with parallel things (ParallelThingsBlock)",
        "each block sums several attentions and several MLPs",
        names=("blocks.0.attns.", "blocks.0.ffns."),
        architectures=("vit_*_18x2_*",),
    ),
    Refusal(
        "a post-norm ViT",
        "its norms stand behind attention and MLP, not before them",
        architectures=("vit_*_rpn_*", "eva02_enormous_*"),
    ),
    Refusal(
        "timm's test_vit3",
        "its attention pool reads the registers too",
        architectures=("test_vit3",),
    ),
    Refusal(
        "a ViT with rotary positions of learned, mixed frequencies",
        "each block and head has frequencies of its own",
        names=("rope.freqs",),
        architectures=("vit_*_rope_mixed_*",),
    ),
    Refusal(
        "a ViT with rotary positions that count columns first",
        "its angles depend on the number of patches in a way that neither DINOv3's nor EVA-02's do",
        architectures=("vit_*_patch16_rope_224", "vit_*_patch16_rope_ape_224"),
    ),
    Refusal(
        "PE (Perception Encoder)",
        "its rotary positions count columns first, and its attention pool has heads of its own",
        architectures=("vit_pe_*",),
    ),
    Refusal(
        "Sapiens2",
        "several heads share keys and values, and only the attention has a layer scale",
        architectures=("vit_*_sapiens2",),
    ),
    Refusal(
        "a BEiT with relative positions",
        "a learned bias for each distance is added to its attention",
        names=(
            "blocks.0.attn.relative_position_bias_table",
            "rel_pos_bias.relative_position_bias_table",
            "blocks.0.attn.relative_position_index",
        ),
        architectures=("beit_*", "beitv2_*"),
    ),
    Refusal(
        "a ViT with relative positions",
        "a learned bias for each distance is added to its attention",
        names=("blocks.0.attn.rel_pos.", "shared_rel_pos."),
        architectures=("vit_relpos_*", "vit_srelpos_*", "test_vit_relpos*"),
    ),
    Refusal(
        "a hybrid ViT",
        "convolutions stand before its patches",
        names=("patch_embed.backbone.",),
        architectures=("vit_*_r26_*", "vit_*_r50_*", "vit_*_resnet*", "vit_tiny_r_*", "vit_base_mci_*"),
    ),
    Refusal(
        "NaFlexViT",
        "it takes images of any shape as lists of patches with a mask",
        names=("embeds.proj.weight",),
        architectures=("naflexvit_*",),
    ),
)
OPEN_CLIP = (
    Refusal(
        "a CoCa or another CLIP with attentional pooling",
        "its queries attend to tokens of another width, behind norms of their own",
        names=("visual.attn_pool.query", "attn_pool.query"),
    ),
    Refusal(
        "a CLIP with a ResNet",
        "its visual tower is no Vision Transformer",
        names=("visual.layer1.0.conv1.weight", "visual.attnpool.positional_embedding"),
    ),
)
TORCHVISION = (
    Refusal(
        "a torchvision ViT with a convolutional stem",
        "convolutions stand before its patches",
        names=("conv_proj.conv_bn_relu_0.", "conv_proj.conv_last."),
    ),
)
_NO_BACKBONE = "there is no ViT in this file: convert the backbone, which is in a file of its own"
META = (
    Refusal("DINO's linear classifier alone", _NO_BACKBONE, alone=("linear.weight", "linear.bias")),
    Refusal("a linear classifier of DINOv2 or DINOv3 alone", _NO_BACKBONE, alone=("weight", "bias")),
    Refusal(
        "DINOv3 with a norm of its own for the class token (untie_cls_and_patch_norms)",
        "there is one last norm for all tokens here",
        names=("cls_norm.weight", "backbone.cls_norm.weight"),
    ),
    Refusal(
        "a ViT with parallel blocks of DeiT's repository (paralx2, three things about ViTs)",
        "each block sums two attentions and two MLPs",
        names=("blocks.0.norm11.weight",),
    ),
    Refusal(
        "a ViT with the hMLP stem of DeiT's repository",
        "its patches go through several convolutions and norms",
        names=("patch_embed.proj.0.weight",),
    ),
)
BAAI = (
    Refusal(
        "EVA or EVA-02 as its own repository names it",
        "timm's port of the same weights is: timm/eva02_* and timm/eva_* of the Hugging Face hub",
        names=("blocks.0.attn.inner_attn_ln.weight", "rope.freqs_cos", "blocks.0.attn.rope.freqs_cos"),
    ),
)
HUGGING_FACE = (
    Refusal(
        "BEiT or data2vec's ViT",
        "a learned bias for each distance is added to its attention",
        names=("beit.", "data2vec_vision.", "encoder.layer.0.lambda_1", "layers.0.lambda_1"),
        model_types=("beit", "data2vec-vision"),
    ),
    Refusal(
        "a hybrid ViT",
        "convolutions stand before its patches",
        names=("embeddings.patch_embeddings.backbone.", "vit.embeddings.patch_embeddings.backbone."),
        model_types=("vit-hybrid",),
    ),
    Refusal(
        "DINOv3's ConvNeXt",
        "it is no Vision Transformer",
        names=("stages.0.layers.0.depthwise_conv.weight", "model.stages.0.layers.0.depthwise_conv.weight"),
        model_types=("dinov3_convnext",),
    ),
    Refusal(
        "SigLIP 2 of any shape (NaFlex)",
        "it takes images as lists of patches with a mask; the checkpoints of a fixed resolution are read",
        model_types=("siglip2", "siglip2_vision_model"),
    ),
)
REFUSALS: tuple[Refusal, ...] = (*TIMM, *OPEN_CLIP, *TORCHVISION, *META, *BAAI, *HUGGING_FACE)


def refuse(path: Path, shapes: Mapping[str, Shape], beside: Beside) -> None:
    """Raises CheckpointError for a model that is known and not read."""
    config = beside("config.json") or {}
    kind, architecture = str(config.get("model_type", "")), str(config.get("architecture", ""))
    for refusal in REFUSALS:
        if refusal.covers(shapes, kind, architecture):
            raise CheckpointError(f"{path}: {refusal.what} is not read: {refusal.why}")
