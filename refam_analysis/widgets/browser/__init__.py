"""The embedded model in a reader's browser: its parts as ONNX graphs, and the files of the page that runs them.

What goes into a graph (`parts`), how it is written (`graphs`), tokenizers and word lists (`words`), all of it together
(`export`), the pictures to choose from (`gallery`), and the folder that a page is served from (`site`). The scripts are
``static/engine_*.js``.
"""
