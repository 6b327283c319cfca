"""The exact population loss of the toy model, with its gradient, its error, and what it is made of.

`relu_output` is computed to a stated error at about the price of one minibatch step, `error_estimate` states it, `nodes_for` gives
the nodes for an accuracy. `linear` and `mean_field` are closed forms, the second an approximation for many active features.
`loss_by_active` splits the loss by the number of active features. `W` has shape (m, n); its column i is the direction of feature i.
"""

from superpose.expected_loss.accuracy import MOST_NODES, error_estimate, nodes_for
from superpose.expected_loss.active_count import Parts, loss_by_active, sample_active
from superpose.expected_loss.approximations import linear, mean_field
from superpose.expected_loss.inputs import FEWEST, Importance
from superpose.expected_loss.networks import autoencoder, autoencoder_error, autoencoder_nodes_for, one_hidden_layer
from superpose.expected_loss.pair_moments import pair_moments, product_moments
from superpose.expected_loss.rectified import RectifiedMoments, rectified_moments
from superpose.expected_loss.relu import output_losses, relu_output

__all__ = [
    "FEWEST",
    "MOST_NODES",
    "Importance",
    "Parts",
    "RectifiedMoments",
    "autoencoder",
    "autoencoder_error",
    "autoencoder_nodes_for",
    "error_estimate",
    "linear",
    "loss_by_active",
    "mean_field",
    "nodes_for",
    "one_hidden_layer",
    "output_losses",
    "pair_moments",
    "product_moments",
    "rectified_moments",
    "relu_output",
    "sample_active",
]
