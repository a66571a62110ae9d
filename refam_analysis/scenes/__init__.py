"""The diagnostic data set: drawn scenes with exact masks and expressions that are true of exactly one object.

What a scene is (`scene`), how one is drawn at random (`sampling`), how it becomes pixels and masks (`rendering`),
which expressions refer to its objects (`expressions`), how training describes it (`captions`), the splits
(`dataset`), and all of it in numbers (`tables`). Nothing here knows of a model.
"""

from refam_analysis.scenes.captions import describe
from refam_analysis.scenes.dataset import Scenes, SceneSample
from refam_analysis.scenes.expressions import KINDS, Expression, ExpressionKind, expressions
from refam_analysis.scenes.rendering import Rendering, render
from refam_analysis.scenes.sampling import SceneOptions, sample_scene
from refam_analysis.scenes.scene import Scene, SceneObject
from refam_analysis.scenes.tables import expression_table, object_table
from refam_analysis.scenes.vocabulary import BACKGROUNDS, COLOURS, HELD_OUT, SHAPES, SIZES

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "HELD_OUT",
    "KINDS",
    "SHAPES",
    "SIZES",
    "Expression",
    "ExpressionKind",
    "Rendering",
    "Scene",
    "SceneObject",
    "SceneOptions",
    "SceneSample",
    "Scenes",
    "describe",
    "expression_table",
    "expressions",
    "object_table",
    "render",
    "sample_scene",
]
