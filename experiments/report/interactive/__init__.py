"""The plots of a results page, to hover over, drawn by Bokeh; figures for papers lie a folder above."""
