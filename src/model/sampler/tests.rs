use super::schedule::NoiseSchedule;
use super::*;
use crate::model::noise::fill_normal;

const LEN: usize = 24;

fn latent(seed: u64, draw: u64) -> Vec<f32> {
    let mut out = vec![0.0; LEN];
    fill_normal(seed, draw, &mut out);
    out
}

/// A model that answers something smooth and not linear.
fn smooth_model(timestep: f32, x_in: &[f32]) -> Vec<f32> {
    x_in.iter().map(|x| 0.7 * x + 0.2 * (2.0 * x).sin() + 0.0001 * timestep).collect()
}

/// Runs calls `from..to`; the noise of a call depends on nothing but the call, as in a recipe.
fn run(
    sampler: &mut Sampler,
    x: &mut Vec<f32>,
    calls: std::ops::Range<usize>,
    model: impl Fn(&Sampler, usize, &[f32]) -> Vec<f32>,
) {
    for call in calls {
        let epsilon = model(sampler, call, x);
        let mut draws = 0;
        let step = sampler.step(call, &epsilon, x, &mut |out: &mut [f32]| {
            assert_eq!(out.len(), LEN);
            draws += 1;
            fill_normal(7, call as u64 + 1, out);
        });
        assert!(draws <= 1, "a call draws once at most");
        assert_eq!((step.x.len(), step.denoised.len()), (LEN, LEN));
        *x = step.x;
    }
}

fn smooth(sampler: &Sampler, call: usize, x: &[f32]) -> Vec<f32> {
    smooth_model(sampler.timestep(call), &sampler.scale_model_input(call, x))
}

fn start(sampler: &Sampler) -> Vec<f32> {
    latent(3, 0).into_iter().map(|value| value * sampler.init_noise_sigma()).collect()
}

#[test]
fn a_run_stopped_after_any_call_goes_on_bit_equal() {
    for kind in SamplerKind::ALL {
        for steps in [4, 9, 16] {
            let mut whole = Sampler::new(kind, steps).unwrap();
            let calls = whole.calls();
            let mut want = start(&whole);
            run(&mut whole, &mut want, 0..calls, smooth);
            for stop in 0..=calls {
                let mut before = Sampler::new(kind, steps).unwrap();
                let mut x = start(&before);
                run(&mut before, &mut x, 0..stop, smooth);
                let kept = before.history();
                let mut after = Sampler::new(kind, steps).unwrap();
                after.restore(stop, kept).unwrap();
                run(&mut after, &mut x, stop..calls, smooth);
                assert_eq!(x, want, "{kind}, {steps} steps, stopped before call {stop}");
            }
        }
    }
}

/// If the model always knows the clean latent, every sampler arrives there, with every number of steps, and every preview
/// shows it. (PNDM and DEIS stop at the noise of timestep 0, a hundredth.)
#[test]
fn all_samplers_arrive_where_the_model_points() {
    let clean = latent(5, 0);
    let schedule = NoiseSchedule::trained();
    for kind in SamplerKind::ALL {
        for steps in [1, 2, 3, 4, 5, 8, 14, 15, 16, 50, 999, 1000] {
            let Ok(mut sampler) = Sampler::new(kind, steps) else {
                assert!(kind == SamplerKind::Pndm && steps < 4);
                continue;
            };
            let calls = sampler.calls();
            let mut x = start(&sampler);
            let knowing = |sampler: &Sampler, call: usize, x: &[f32]| -> Vec<f32> {
                let scale = f64::from(sampler.scale_model_input(call, &[1.0])[0]);
                // Sigma-based kinds scale the input; the others hold it at signal^2 + noise^2 = 1.
                let (signal, noise) = if scale < 1.0 {
                    (1.0, (1.0 / (scale * scale) - 1.0).sqrt())
                } else {
                    let alpha_bar = f64::from(schedule.alpha_bar(sampler.timestep(call) as i32));
                    (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt())
                };
                x.iter().zip(&clean).map(|(&x, &c)| ((f64::from(x) - signal * f64::from(c)) / noise) as f32).collect()
            };
            run(&mut sampler, &mut x, 0..calls, knowing);
            let bound = match kind {
                SamplerKind::Pndm | SamplerKind::Deis => 0.06,
                _ => 2e-3,
            };
            for (got, want) in x.iter().zip(&clean) {
                assert!((got - want).abs() < bound, "{kind}, {steps} steps: {got} instead of {want}");
            }
        }
    }
}

/// The few-step sampler against the recipe it was distilled with, in f64: milestones 999, 999 - 1000/n, .., then clean.
#[test]
fn ddim_trailing_walks_the_milestones() {
    let mut alpha_bars = vec![1.0];
    for timestep in 0..1000 {
        alpha_bars.push(alpha_bars[timestep] * (1.0 - (0.0001 + 0.0199 * timestep as f64 / 999.0)));
    }
    for steps in [1, 2, 4, 5, 8, 10, 20] {
        let mut sampler = Sampler::new(SamplerKind::DdimTrailing, steps).unwrap();
        let mut x = start(&sampler);
        let mut want: Vec<f64> = x.iter().copied().map(f64::from).collect();
        run(&mut sampler, &mut x, 0..steps, smooth);
        for step in 0..steps {
            let timestep = 1000 - step * (1000 / steps);
            let (a, b) = (alpha_bars[timestep], alpha_bars[timestep - 1000 / steps]);
            for value in &mut want {
                let epsilon = 0.7 * *value + 0.2 * (2.0 * *value).sin() + 0.0001 * (timestep as f64 - 1.0);
                let clean = (*value - (1.0 - a).sqrt() * epsilon) / a.sqrt();
                *value = b.sqrt() * clean + (1.0 - b).sqrt() * epsilon;
            }
        }
        let scale = want.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
        for (got, want) in x.iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() < 2e-5 * scale, "{steps} steps: {got} instead of {want}");
        }
    }
}

#[test]
fn impossible_step_numbers_are_refused() {
    for kind in SamplerKind::ALL {
        for steps in [0, 1001, usize::MAX] {
            let message = Sampler::new(kind, steps).err().unwrap().to_string();
            assert!(message.contains(kind.name()) && message.contains("1000"), "{message}");
        }
    }
    assert!(Sampler::new(SamplerKind::Pndm, 3).is_err());
    assert_eq!(Sampler::new(SamplerKind::Pndm, 4).unwrap().calls(), 13);
    assert_eq!(Sampler::new(SamplerKind::Heun, 10).unwrap().calls(), 19);
}

#[test]
fn a_history_of_another_run_is_refused() {
    let mut sampler = Sampler::new(SamplerKind::DpmSolverMultistep, 5).unwrap();
    assert!(matches!(sampler.restore(6, vec![]), Err(SamplerError::NoSuchCall { .. })));
    assert!(matches!(sampler.restore(2, vec![]), Err(SamplerError::History { wanted: 1, .. })));
    assert!(matches!(sampler.restore(0, vec![vec![0.0]]), Err(SamplerError::History { wanted: 0, .. })));
    let mut sampler = Sampler::new(SamplerKind::Heun, 5).unwrap();
    assert!(matches!(sampler.restore(1, vec![vec![0.0; 3], vec![0.0; 4]]), Err(SamplerError::History { .. })));
    sampler.restore(1, vec![vec![0.0; 3], vec![0.0; 3]]).unwrap();
    assert_eq!(sampler.next_call(), 1);
}
