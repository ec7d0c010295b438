//! Which operands of a plan are prepacked, and which bindings need no plain form.

use super::packed::{PackedPlace, PackedStep, PackingPlan, Prepacked};
use super::{Available, BindingKind, Location, Plan};
use crate::compile::backend::{Backend, Packed};

impl PackingPlan {
    /// Asks `backend` for each step's packed operand.
    pub fn new<B: Backend>(plan: &Plan, backend: &B) -> Self {
        let mut plain: Vec<bool> = plan
            .bindings
            .iter()
            .map(|b| b.updated || !matches!(b.kind, BindingKind::Parameter))
            .collect();
        let mut prepacked: Vec<Prepacked> = Vec::new();
        // The binding and the form of each.
        let mut forms: Vec<(&Location, B::Form)> = Vec::new();
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (at, step) in plan.steps.iter().enumerate() {
            let (inputs, outputs) = (plan.types(&step.inputs), plan.types(&step.outputs));
            let packed = backend.packed(&step.op, &inputs, &outputs, &step.available);
            let packed = packed.map(|packed| {
                let Packed { index, bytes, .. } = packed;
                let mut place = PackedPlace::Workspace;
                if packed.prepacked {
                    let form = (&plan.value(step.inputs[index]).location, packed.form);
                    let shared = forms.iter().position(|other| *other == form);
                    place = PackedPlace::Prepacked(shared.unwrap_or(prepacked.len()));
                    if shared.is_none() {
                        forms.push(form);
                        let available = step.available[index];
                        prepacked.push(Prepacked {
                            step: at,
                            bytes,
                            available,
                        });
                    }
                }
                PackedStep {
                    index,
                    bytes,
                    place,
                }
            });
            for (position, (&input, &available)) in
                step.inputs.iter().zip(&step.available).enumerate()
            {
                let packed_at_load = available == Available::AtLoad
                    && packed
                        .is_some_and(|p| p.index == position && p.place != PackedPlace::Workspace);
                if let Location::Binding(index) = plan.value(input).location
                    && !packed_at_load
                {
                    plain[index] = true;
                }
            }
            steps.push(packed);
        }
        for &(_, value) in &plan.outputs {
            if let Location::Binding(index) = plan.value(value).location {
                plain[index] = true;
            }
        }
        Self {
            steps,
            prepacked,
            plain,
        }
    }
}
