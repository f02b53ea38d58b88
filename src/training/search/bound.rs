//! What the rest of a plan can reach at best, so that hopeless ways are not followed to their end.
//!
//! Of error and cost one is limited and the other is to be the least. With a price for what is limited, every layer can be chosen
//! by itself, and what that gives is never more than the best plan (Lagrange's bound, as for knapsacks: Sinha and Zoltners 1979).
//! At the least price whose choices keep the limit, they are a plan; a way that cannot become as good is left.

/// Layers with candidates, and a limit.
pub struct Problem<'a> {
    /// Of each layer, of each candidate but the dense one, whose error is 0.
    pub losses: &'a [Vec<f64>],
    /// Of each candidate, in units.
    pub costs: &'a [u64],
    /// The most that may be of the limited one, of all layers together.
    pub limit: f64,
    pub is_cost_limited: bool,
}

/// How much of both a choice takes: what is limited, and what is to be the least.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Amounts {
    limited: f64,
    wanted: f64,
}

pub struct Bound {
    price: f64,
    limit: f64,
    is_cost_limited: bool,
    /// Behind each layer, the least of `wanted + price * limited` that the layers to come can have.
    rest: Vec<f64>,
    /// A plan is known that takes so much.
    reached: f64,
    /// What rounding may change.
    tolerance: f64,
}

/// Halvings of the range of prices: all digits that there are.
const HALVINGS: usize = 100;
/// Sums of a few hundred terms are exact to more digits than this.
const ROUNDING: f64 = 1e-9;

impl Problem<'_> {
    fn amounts(&self, cost: f64, loss: f64) -> Amounts {
        if self.is_cost_limited { Amounts { limited: cost, wanted: loss } } else { Amounts { limited: loss, wanted: cost } }
    }

    fn candidates<'a>(&'a self, losses: &'a [f64]) -> impl Iterator<Item = Amounts> + 'a {
        let of = |(candidate, &cost): (usize, &u64)| self.amounts(cost as f64, losses.get(candidate).copied().unwrap_or(0.0));
        self.costs.iter().enumerate().map(of)
    }

    /// What is chosen in a layer at a price; of equally good candidates the one that takes less of what is limited.
    fn choice(&self, losses: &[f64], price: f64) -> Amounts {
        let value = |of: &Amounts| of.wanted + price * of.limited;
        let none = Amounts { limited: 0.0, wanted: 0.0 };
        let better = |a: &Amounts, b: &Amounts| value(a).total_cmp(&value(b)).then(a.limited.total_cmp(&b.limited));
        self.candidates(losses).min_by(better).unwrap_or(none)
    }

    /// All layers by themselves.
    fn plan(&self, price: f64) -> Amounts {
        let chosen = self.losses.iter().map(|losses| self.choice(losses, price));
        chosen.fold(Amounts { limited: 0.0, wanted: 0.0 }, |sum, of| Amounts {
            limited: sum.limited + of.limited,
            wanted: sum.wanted + of.wanted,
        })
    }

    /// What keeps the limit if anything does: all layers with the least of what is limited.
    fn thriftiest(&self) -> Amounts {
        let least = |losses: &Vec<f64>| {
            let better = |a: &Amounts, b: &Amounts| a.limited.total_cmp(&b.limited).then(a.wanted.total_cmp(&b.wanted));
            self.candidates(losses).min_by(better)
        };
        self.losses.iter().filter_map(least).fold(Amounts { limited: 0.0, wanted: 0.0 }, |sum, of| Amounts {
            limited: sum.limited + of.limited,
            wanted: sum.wanted + of.wanted,
        })
    }
}

impl Bound {
    /// None if no plan keeps the limit.
    pub fn of(problem: &Problem<'_>) -> Option<Self> {
        let thriftiest = problem.thriftiest();
        if thriftiest.limited > problem.limit * (1.0 + ROUNDING) {
            return None;
        }
        // The thriftiest plan keeps the limit at any price, also where no price finds a better one.
        let (mut low, mut high, mut reached) = (0.0, f64::INFINITY, thriftiest.wanted);
        let mut price = 1.0;
        for _ in 0..HALVINGS {
            let plan = problem.plan(price);
            if plan.limited <= problem.limit {
                (high, reached) = (price, reached.min(plan.wanted));
            } else {
                low = price;
            }
            price = if high.is_finite() { (low + high) / 2.0 } else { price * 16.0 };
        }
        // Any price bounds; this one, where choices change from too much to enough, bounds closely.
        let price = if high.is_finite() { high } else { 0.0 };
        let mut rest: Vec<f64> = vec![0.0];
        for losses in problem.losses.iter().skip(1).rev() {
            let own = problem.choice(losses, price);
            rest.push(rest.last().copied().unwrap_or(0.0) + own.wanted + price * own.limited);
        }
        rest.reverse();
        let size = reached.abs() + price * problem.limit.abs() + rest.first().copied().unwrap_or(0.0);
        Some(Self {
            price,
            limit: problem.limit,
            is_cost_limited: problem.is_cost_limited,
            rest,
            reached,
            tolerance: size * ROUNDING,
        })
    }

    /// Whether a way up to and with a layer can still become as good as the best plan.
    pub fn may_lead_to_best(&self, layer: usize, cost: u64, loss: f64) -> bool {
        let (limited, wanted) = if self.is_cost_limited { (cost as f64, loss) } else { (loss, cost as f64) };
        let at_best = wanted + self.price * (limited - self.limit) + self.rest[layer];
        at_best <= self.reached + self.tolerance
    }
}
