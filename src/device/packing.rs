//! Which operands of a plan are kept in the packed form that kernels read, and which bindings need no plain form.

use super::DeviceError;
use crate::graph::{Binding, BindingKind, Location, Plan, TensorType, Value};
use crate::ops::Op;
use crate::tensor::TensorMap;

/// An operand of a step that is read packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PackedStep {
    /// Position among the inputs.
    pub index: usize,
    /// Size of the packed form, in the device's unit.
    pub size: usize,
    /// Packed when the plan is loaded, because no step updates the weight; else before each execution.
    pub once: bool,
}

/// What is packed in a plan.
pub(crate) struct PackingPlan {
    /// One per step.
    pub steps: Vec<Option<PackedStep>>,
    /// One per binding: whether some step or the host reads its plain form.
    pub plain: Vec<bool>,
}

impl PackingPlan {
    /// Asks `packed(op, inputs, outputs)` for the position and packed size of each step's packed operand.
    pub fn new(
        plan: &Plan,
        packed: impl Fn(&Op, &[TensorType], &[TensorType]) -> Option<(usize, usize)>,
    ) -> Self {
        let mut plain: Vec<bool> = plan
            .bindings
            .iter()
            .map(|b| b.updated || !matches!(b.kind, BindingKind::Parameter))
            .collect();
        let steps = plan
            .steps
            .iter()
            .map(|step| {
                let (inputs, outputs) = (types(plan, &step.inputs), types(plan, &step.outputs));
                let packed = packed(&step.op, &inputs, &outputs).map(|(index, size)| {
                    let once = match plan.value(step.inputs[index]).location {
                        Location::Binding(index) => {
                            let binding = &plan.bindings[index];
                            matches!(binding.kind, BindingKind::Parameter) && !binding.updated
                        }
                        _ => false,
                    };
                    PackedStep { index, size, once }
                });
                for (position, &input) in step.inputs.iter().enumerate() {
                    let packed_here = packed.is_some_and(|p| p.once && p.index == position);
                    if let Location::Binding(index) = plan.value(input).location
                        && !packed_here
                    {
                        plain[index] = true;
                    }
                }
                packed
            })
            .collect();
        for &(_, value) in &plan.outputs {
            if let Location::Binding(index) = plan.value(value).location {
                plain[index] = true;
            }
        }
        Self { steps, plain }
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
