use counterpoint_rollout::Batch;
use counterpoint_rollout::contract::{RATE_BARS, StepReport, rate_bar};

use crate::measure::Measured;
use crate::pack::Packed;

/// Completes what the step knows of itself (gradient, learning rate, time) with what was measured on its tokens and groups.
pub(crate) fn report(step: StepReport, measured: &Measured, batch: &Batch, packed: &Packed) -> StepReport {
    let skipped = step.not_finite.is_some();
    let report = about_groups(about_tokens(step, measured, packed), batch, packed);
    if skipped { only_finite(report) } else { report }
}

/// The means over tokens.
fn about_tokens(step: StepReport, measured: &Measured, packed: &Packed) -> StepReport {
    let per = |sum: f64, count: f64| if count > 0.0 { sum / count } else { 0.0 };
    let tokens = packed.tokens as f64;
    let parts = &measured.parts;
    let fresh: u64 = packed.micro_batches.iter().map(|m| m.fresh.iter().filter(|f| **f != 0.0).count() as u64).sum();
    let weighted = measured.importance > 0.0;
    StepReport {
        loss: measured.loss,
        loss_positive: per(parts.positive, parts.right),
        loss_negative: per(parts.negative, parts.wrong),
        ratio_mean: per(measured.ratio, tokens),
        log_ratio_max: measured.log_ratio_max,
        clipped_share: per(parts.clipped, parts.wrong),
        clipped_share_right: per(parts.clipped_right, parts.right),
        ratio_right: measured.right,
        ratio_wrong: measured.wrong,
        importance_mean: if weighted { per(measured.importance, tokens) } else { 1.0 },
        importance_capped_share: per(measured.importance_capped, tokens),
        kl: per(measured.kl, tokens),
        effective_sample_size: per(measured.ratio * measured.ratio, tokens * measured.ratio_squared),
        entropy: per(measured.entropy, tokens),
        mismatch_mean: per(measured.mismatch, fresh as f64),
        mismatch_max: measured.mismatch_max,
        mismatch_tokens: fresh,
        stale_mismatch_mean: per(measured.distance - measured.mismatch, tokens - fresh as f64),
        stale_mismatch_max: measured.stale_mismatch_max,
        tokens: packed.tokens,
        answers: packed.answers.len() as u64,
        ..step
    }
}

/// What is known of the groups without their tokens.
fn about_groups(report: StepReport, batch: &Batch, packed: &Packed) -> StepReport {
    let groups = batch.groups.len() as f64;
    // One rate per group: each answer carries its group's.
    let mut of_groups = vec![0.0; batch.groups.len()];
    for answer in &packed.answers {
        of_groups[answer.group] = answer.rate;
    }
    let mut rates = [0; RATE_BARS];
    for rate in &of_groups {
        rates[rate_bar(*rate)] += 1;
    }
    StepReport {
        groups: batch.groups.len() as u64,
        rate_mean: of_groups.iter().sum::<f64>() / groups,
        rates,
        staleness_max: batch.staleness().max().unwrap_or(0),
        staleness_mean: batch.staleness().sum::<u64>() as f64 / groups,
        ..report
    }
}

/// JSON has no NaN: what is none is 0, and `not_finite` says why.
fn only_finite(mut report: StepReport) -> StepReport {
    let mut numbers: Vec<&mut f64> = report.grad_norms.values_mut().collect();
    for quantiles in [&mut report.ratio_right, &mut report.ratio_wrong] {
        numbers.extend([&mut quantiles.p01, &mut quantiles.p50, &mut quantiles.p99]);
    }
    numbers.extend([
        &mut report.loss,
        &mut report.loss_positive,
        &mut report.loss_negative,
        &mut report.grad_norm,
        &mut report.ratio_mean,
        &mut report.log_ratio_max,
        &mut report.clipped_share,
        &mut report.clipped_share_right,
        &mut report.importance_mean,
        &mut report.importance_capped_share,
        &mut report.kl,
        &mut report.effective_sample_size,
        &mut report.entropy,
        &mut report.mismatch_mean,
        &mut report.mismatch_max,
        &mut report.stale_mismatch_mean,
        &mut report.stale_mismatch_max,
    ]);
    for number in numbers.into_iter().filter(|number| !number.is_finite()) {
        *number = 0.0;
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_of_ten_answers_has_its_bar() {
        let bars: Vec<usize> = (0..=10u8).map(|right| rate_bar(f64::from(right) / 10.0)).collect();
        assert_eq!(bars, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]);
        assert_eq!(rate_bar(f64::from(0.3f32)), 3);
    }

    #[test]
    fn a_skipped_step_has_no_number_that_json_cannot_hold() {
        let mut broken = StepReport { not_finite: Some("loss is NaN".into()), loss: f64::NAN, ..Default::default() };
        broken.ratio_wrong.p99 = f64::INFINITY;
        broken.grad_norms.insert("norm".into(), f64::NAN);
        let text = serde_json::to_string(&only_finite(broken.clone())).unwrap();
        assert!(!text.contains("null"), "{text}");
        let whole: StepReport = serde_json::from_str(&text).unwrap();
        assert_eq!((whole.loss, whole.not_finite), (0.0, broken.not_finite));
    }
}
