"""The diagnostic data set: drawn scenes with exact masks and expressions that are true of exactly one object.

What a scene is (`scene`), how one is drawn at random (`sampling`), how it becomes pixels and masks (`rendering`,
`shapes`), which expressions refer to its objects (`expressions`), how training describes it (`captions`), the splits
(`dataset`), the moving ones (`moving`) and how their objects move (`motion`), and all of it in numbers (`tables`).
Rich scenes have materials and textures: their words (`rich_vocabulary`), how they are drawn at random
(`rich_sampling`), what they look like (`surfaces`, `textures`) and how training describes them (`rich_captions`).
Nothing here knows of a model.
"""

from refam_analysis.scenes.captions import describe
from refam_analysis.scenes.dataset import Scenes, SceneSample
from refam_analysis.scenes.expressions import KINDS, Expression, ExpressionKind, expressions
from refam_analysis.scenes.moving import (
    MOVING_KINDS,
    MovingExpression,
    MovingOptions,
    MovingSample,
    MovingScenes,
    moving_expressions,
)
from refam_analysis.scenes.rendering import Rendering, render
from refam_analysis.scenes.rich_captions import caption_words, describe_rich, reword
from refam_analysis.scenes.rich_vocabulary import (
    HELD_OUT_SYNONYMS,
    MATERIALS,
    RICH_HELD_OUT,
    RICH_SHAPES,
    RICH_SIZES,
    SYNONYMS,
    TEXTURES,
)
from refam_analysis.scenes.sampling import SceneOptions, sample_scene
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.tables import expression_table, object_table
from refam_analysis.scenes.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT",
    "HELD_OUT_SYNONYMS",
    "KINDS",
    "MATERIALS",
    "MOVING_KINDS",
    "RICH_HELD_OUT",
    "RICH_SHAPES",
    "RICH_SIZES",
    "SHAPES",
    "SIZES",
    "SYNONYMS",
    "TEXTURES",
    "Expression",
    "ExpressionKind",
    "MovingExpression",
    "MovingOptions",
    "MovingSample",
    "MovingScenes",
    "Rendering",
    "Scene",
    "SceneObject",
    "SceneOptions",
    "SceneSample",
    "Scenes",
    "caption_words",
    "describe",
    "describe_rich",
    "expression_table",
    "expressions",
    "moving_expressions",
    "object_table",
    "render",
    "reword",
    "sample_scene",
]
