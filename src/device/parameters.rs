//! The weights that a plan is loaded with.

use super::DeviceError;
use crate::compile::Binding;
use crate::tensor::TensorMap;

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
