//! Soft assignment to learned centres.

use super::context::Reported;
use super::fields::{self, Fields};
use super::layers;
use super::network::{Layer, LayerKind};
use super::schema::{self, Named};
use super::spanned::Spanned;

/// How near the output of a layer is to each of some centres.
#[derive(Debug, Clone, PartialEq)]
pub struct Kmeans {
    /// How many centres.
    pub num_clusters: Spanned<u64>,
    /// Elements of a centre: those of the last axis of what is clustered.
    pub cluster_dim: Option<Spanned<u64>>,
    /// What makes the features; left out, they are the layer's input.
    pub attached: Option<Box<Layer>>,
    /// What comes out.
    pub output: KmeansOutput,
    /// How far a feature vector is from a centre.
    pub metric: KmeansMetric,
    /// The width of the assignment, more than 0; default 1.
    pub temperature: f64,
    /// Of a training, more than 0; default 0.01. It changes nothing that is computed.
    pub learning_rate: f64,
}

/// What a [`Kmeans`] gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KmeansOutput {
    /// `probabilities`: the weight of each centre.
    Probabilities,
    /// `features`: the centres' mean under these weights.
    Features,
}

/// A distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KmeansMetric {
    /// `squared_euclidean`: Σ (f - c)²
    SquaredEuclidean,
    /// `euclidean`: its square root.
    Euclidean,
    /// `manhattan`: Σ |f - c|
    Manhattan,
    /// `cosine`: 1 - f·c / (|f| |c|)
    Cosine,
}

/// What comes out. The first is the default.
pub(super) const OUTPUTS: &[Named<KmeansOutput>] = &[
    Named::plain("probabilities", &[], |_| Ok(KmeansOutput::Probabilities)),
    Named::plain("features", &[], |_| Ok(KmeansOutput::Features)),
];

/// The distances. The first is the default.
pub(super) const METRICS: &[Named<KmeansMetric>] = &[
    Named::plain("squared_euclidean", &[], |_| Ok(KmeansMetric::SquaredEuclidean)),
    Named::plain("euclidean", &[], |_| Ok(KmeansMetric::Euclidean)),
    Named::plain("manhattan", &[], |_| Ok(KmeansMetric::Manhattan)),
    Named::plain("cosine", &[], |_| Ok(KmeansMetric::Cosine)),
];

pub(super) fn kmeans(fields: &mut Fields<'_, '_>) -> Result<LayerKind, Reported> {
    let num_clusters = fields.required(schema::NUM_CLUSTERS, fields::size);
    // The predecessor wrote a 0 where the size was to be found out.
    let cluster_dim = fields.optional(schema::CLUSTER_DIM, fields::count);
    let attached = layers::inner(fields, schema::ATTACHED_LAYER, |path| path.attached());
    let output = fields::read_choice(fields, schema::KMEANS_OUTPUT_MODE, "output mode", OUTPUTS);
    let metric = fields::read_choice(fields, schema::DISTANCE_METRIC, "distance metric", METRICS);
    let temperature = layers::or_default_by(fields, schema::KMEANS_TEMPERATURE, 1.0, fields::width_or_zero);
    let learning_rate = layers::or_default(fields, schema::KMEANS_LEARNING_RATE, 0.01);
    Ok(LayerKind::Kmeans(Kmeans {
        num_clusters: num_clusters?,
        cluster_dim: cluster_dim?.filter(|size| size.value > 0),
        attached: attached?.map(Box::new),
        output: output?,
        metric: metric?,
        temperature: temperature?,
        learning_rate: learning_rate?,
    }))
}
