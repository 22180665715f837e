//! The few statistics that are needed, over samples that are kept. One that can't be had is absent, not 0.

/// The median; `None` without samples.
pub(crate) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The arithmetic mean; `None` without samples.
pub(crate) fn mean(samples: &[f64]) -> Option<f64> {
    let count = samples.len() as f64;
    (!samples.is_empty()).then(|| samples.iter().sum::<f64>() / count)
}

/// Least and greatest; `None` without samples.
pub(crate) fn range(samples: &[f64]) -> Option<(f64, f64)> {
    let least = samples.iter().copied().reduce(f64::min)?;
    let greatest = samples.iter().copied().reduce(f64::max)?;
    Some((least, greatest))
}

/// The median of the ratios of samples that were taken one after the other: what slowed both is in neither.
pub(crate) fn paired_ratio(samples: &[f64], yardstick: &[f64]) -> Option<f64> {
    let ratios: Vec<f64> = samples.iter().zip(yardstick).map(|(sample, unit)| sample / unit).collect();
    median(&ratios)
}
