//! Independent decoder of requests for tests: prost messages, and a flat list of samples to compare.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<WireSample>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Label {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct WireSample {
    #[prost(double, tag = "1")]
    pub value: f64,
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Labels as sent, value bits, milliseconds.
pub type Flat = (Vec<(String, String)>, u64, i64);

/// Samples of a body in the order of the wire. Fails on anything a strict receiver would refuse.
pub fn samples(body: &[u8]) -> Vec<Flat> {
    let raw = snap::raw::Decoder::new().decompress_vec(body).expect("valid snappy");
    let request = WriteRequest::decode(raw.as_slice()).expect("a valid message");
    let mut flat = Vec::new();
    for series in request.timeseries {
        let labels: Vec<_> = series.labels.into_iter().map(|l| (l.name, l.value)).collect();
        assert!(labels.windows(2).all(|w| w[0].0 < w[1].0), "sorted names: {labels:?}");
        assert!(labels.iter().all(|l| !l.0.is_empty() && !l.1.is_empty()), "no empty text: {labels:?}");
        assert!(!series.samples.is_empty());
        flat.extend(series.samples.iter().map(|s| (labels.clone(), s.value.to_bits(), s.timestamp)));
    }
    flat
}
