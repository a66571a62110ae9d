"""From recorded attention to a mask: the heatmap, its point, and a segmenter that answers to the point."""
