"""Figures of measurements, as matplotlib objects outside its global state.

matplotlib is imported when a picture is made, not before; it comes with the extra viz.
"""

from steppe.plots.animation import animate as animate
from steppe.plots.band_plot import bands as bands
from steppe.plots.bar_plot import bars as bars
from steppe.plots.barrier_plot import barriers as barriers
from steppe.plots.box_plot import boxes as boxes
from steppe.plots.canvas import Theme as Theme
from steppe.plots.canvas import darkened as darkened
from steppe.plots.canvas import save_png as save_png
from steppe.plots.canvas import save_svg as save_svg
from steppe.plots.connection_plot import connection as connection
from steppe.plots.contour_plot import contour as contour
from steppe.plots.contour_plot import contourf as contourf
from steppe.plots.curve_plot import curves as curves
from steppe.plots.density_plot import density as density
from steppe.plots.dot_plot import dots as dots
from steppe.plots.eigenvalue_plot import eigenvalues as eigenvalues
from steppe.plots.grouped_bar_plot import grouped_bars as grouped_bars
from steppe.plots.heat_plot import heat as heat
from steppe.plots.interval_plot import intervals as intervals
from steppe.plots.level_plot import levels as levels
from steppe.plots.line_plot import lines as lines
from steppe.plots.pixels import pixels_png as pixels_png
from steppe.plots.planes.words import alt as alt
from steppe.plots.profile_plot import profile as profile
from steppe.plots.scatter_plot import scatter as scatter
from steppe.plots.series_plot import series as series
from steppe.plots.surface_plot import surface3d as surface3d
from steppe.plots.tile_plot import tiles as tiles
