//! No launch: a view is not a step of the plan.

use super::Reshape;
use crate::kernel::Unsupported;
use crate::kernel::cuda::{CudaCall, CudaOperator};

impl CudaOperator for Reshape {
    fn launch(&self, _: &mut CudaCall<'_>) -> Result<(), Unsupported> {
        unreachable!("views are no steps")
    }
}
