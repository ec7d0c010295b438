//! Which operands of a plan are kept in the packed form that kernels read, and which bindings need no plain form.

use super::DeviceError;
use crate::graph::{Binding, BindingKind, Known, Location, Plan, Step, TensorType, Value};
use crate::tensor::TensorMap;

/// An operand that a device reads packed.
pub(crate) struct Packed<F> {
    /// Position among the inputs.
    pub index: usize,
    /// Size of the packed form, in the device's unit.
    pub size: usize,
    /// Steps that read one weight in equal forms share the packed weight.
    pub form: F,
    /// Whether the device keeps it, which it only may for a leaf; otherwise it is packed into the workspace of each
    /// step that reads it.
    pub kept: bool,
}

/// A packed weight that a device keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// The first step that reads it, whose op packs it.
    pub step: usize,
    pub size: usize,
    /// Whether it is packed when the plan is loaded or at the start of each run.
    pub known: Known,
}

/// Where the packed operand of a step lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the kept weight of this index.
    Kept(usize),
    /// Behind the step's own workspace.
    Workspace,
}

/// An operand of a step that is read packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedStep {
    /// Position among the inputs.
    pub index: usize,
    /// Size of the packed form, in the device's unit.
    pub size: usize,
    pub place: Place,
}

/// What is packed in a plan.
pub(crate) struct PackingPlan {
    /// One per step.
    pub steps: Vec<Option<PackedStep>>,
    pub kept: Vec<Kept>,
    /// One per binding: whether some step or the host reads its plain form.
    pub plain: Vec<bool>,
}

impl PackingPlan {
    /// Asks `packed` for each step's packed operand.
    pub fn new<F: PartialEq>(plan: &Plan, packed: impl Fn(&Step) -> Option<Packed<F>>) -> Self {
        let mut plain: Vec<bool> = plan
            .bindings
            .iter()
            .map(|b| b.updated || !matches!(b.kind, BindingKind::Parameter))
            .collect();
        let mut kept: Vec<Kept> = Vec::new();
        // The binding and the form of each.
        let mut forms: Vec<(&Location, F)> = Vec::new();
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (at, step) in plan.steps.iter().enumerate() {
            let packed = packed(step).map(|packed| {
                let Packed { index, size, .. } = packed;
                let mut place = Place::Workspace;
                if packed.kept {
                    let form = (&plan.value(step.inputs[index]).location, packed.form);
                    let shared = forms.iter().position(|other| *other == form);
                    place = Place::Kept(shared.unwrap_or(kept.len()));
                    if shared.is_none() {
                        forms.push(form);
                        let known = step.known[index];
                        kept.push(Kept {
                            step: at,
                            size,
                            known,
                        });
                    }
                }
                PackedStep { index, size, place }
            });
            for (position, (&input, &known)) in step.inputs.iter().zip(&step.known).enumerate() {
                let packed_at_load = known == Known::SinceLoad
                    && packed.is_some_and(|p| p.index == position && p.place != Place::Workspace);
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
        Self { steps, kept, plain }
    }
}

/// Types of values of a plan.
pub(crate) fn types(plan: &Plan, values: &[Value]) -> Vec<TensorType> {
    values.iter().map(|&v| plan.value(v).ty.clone()).collect()
}

/// The weight of a binding as `f32`s.
///
/// # Errors
/// If it is missing, of another shape, or not of a float type.
pub(crate) fn parameter<'a>(
    binding: &Binding,
    parameters: &'a TensorMap,
) -> Result<std::borrow::Cow<'a, [f32]>, DeviceError> {
    let name = || binding.name.clone();
    let tensor = parameters
        .get(&binding.name)
        .ok_or_else(|| DeviceError::MissingParameter(name()))?;
    if tensor.shape() != binding.ty.shape {
        return Err(DeviceError::ParameterShape {
            name: name(),
            expected: binding.ty.shape.clone(),
            found: tensor.shape().to_vec(),
        });
    }
    tensor
        .to_f32()
        .map_err(|source| DeviceError::ParameterType {
            name: name(),
            source,
        })
}
