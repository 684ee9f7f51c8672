//! Writes families of figures: the crate's encoder with the few kinds that are
//! used here. The prefix and the unit stand in front of and behind the names that
//! are given, a counter's `_total` too.

use std::fmt::Error;
use std::time::Duration;

use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::encoding::{MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::delays::Delays;

#[derive(Debug)]
pub(super) struct Sheet<'e>(pub DescriptorEncoder<'e>);

impl Sheet<'_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        unit: Option<&'s Unit>,
        kind: MetricType,
    ) -> Result<MetricEncoder<'s>, Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    /// Words that do not change.
    pub(super) fn info(
        &mut self,
        name: &str,
        help: &str,
        labels: &impl EncodeLabelSet,
    ) -> Result<(), Error> {
        self.family(name, help, None, MetricType::Info)?.encode_info(labels)
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        ConstGauge::new(value).encode(self.family(name, help, None, MetricType::Gauge)?)
    }

    pub(super) fn gauge_bytes(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let family = self.family(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(value).encode(family)
    }

    pub(super) fn gauge_seconds(
        &mut self,
        name: &str,
        help: &str,
        value: Duration,
    ) -> Result<(), Error> {
        let family = self.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(value.as_secs_f64()).encode(family)
    }

    pub(super) fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        let mut family = self.family(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn gauges_seconds<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, i64)>,
    ) -> Result<(), Error> {
        let mut family = self.family(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        ConstCounter::new(value).encode(self.family(name, help, None, MetricType::Counter)?)
    }

    pub(super) fn counter_bytes(
        &mut self,
        name: &str,
        help: &str,
        value: u64,
    ) -> Result<(), Error> {
        let family = self.family(name, help, Some(&Unit::Bytes), MetricType::Counter)?;
        ConstCounter::new(value).encode(family)
    }

    pub(super) fn counter_seconds(
        &mut self,
        name: &str,
        help: &str,
        value: Duration,
    ) -> Result<(), Error> {
        let family = self.family(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        ConstCounter::new(value.as_secs_f64()).encode(family)
    }

    pub(super) fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        write_all(self.family(name, help, None, MetricType::Counter)?, rows)
    }

    pub(super) fn counters_bytes<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        write_all(self.family(name, help, Some(&Unit::Bytes), MetricType::Counter)?, rows)
    }

    pub(super) fn delays(&mut self, name: &str, help: &str, delays: &Delays) -> Result<(), Error> {
        let steps: Vec<(f64, u64)> = delays.steps().collect();
        self.family(name, help, Some(&Unit::Seconds), MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(
                delays.sum().as_secs_f64(),
                delays.count(),
                &steps,
                None,
            )
    }
}

fn write_all<L: EncodeLabelSet>(
    mut family: MetricEncoder<'_>,
    rows: impl Iterator<Item = (L, u64)>,
) -> Result<(), Error> {
    for (labels, value) in rows {
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
