"""Settings of matplotlib that the notebooks share."""

import matplotlib
import pytest

from gapkit.plotting import notebook_style


@pytest.fixture(autouse=True)
def own_settings():
    """Settings of matplotlib as they were before each test, once it has ended."""
    with matplotlib.rc_context():
        yield


def test_curves_of_a_notebook_take_the_five_colours_in_order():
    colours = notebook_style()
    assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"] == list(colours)
    assert colours == (colours.blue, colours.orange, colours.green, colours.purple, colours.grey)


def test_a_figure_of_a_notebook_has_no_frame_and_its_layout_keeps_labels_apart():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    notebook_style()
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], label="curve")
    assert not axes.spines["top"].get_visible() and not axes.spines["right"].get_visible()
    assert not axes.legend().get_frame_on()
    assert figure.get_layout_engine() is not None
    assert figure.dpi == 85


def test_a_second_call_changes_nothing():
    first = notebook_style(), dict(matplotlib.rcParams)
    assert (notebook_style(), dict(matplotlib.rcParams)) == first
