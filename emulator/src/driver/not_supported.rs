//! Calls of the driver API that are not emulated: each says so once and answers `CUDA_ERROR_NOT_SUPPORTED`.
//!
//! Exported so that a program which looks the symbols up when it starts gets an error where it uses one.

use std::collections::HashSet;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::{CUresult, CudaError};

fn refuse(name: &'static str) -> CUresult {
    static SAID: OnceLock<Mutex<HashSet<&'static str>>> = OnceLock::new();
    let said = SAID.get_or_init(Mutex::default);
    if said
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name)
    {
        eprintln!("cuda-emulator: {name} is not emulated: CUDA_ERROR_NOT_SUPPORTED");
    }
    CudaError::NOT_SUPPORTED.0
}

macro_rules! not_supported {
    ($($name:ident)*) => {$(
        // The C callers pass arguments; a function that takes none ignores them in the C calling convention.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name() -> CUresult {
            refuse(stringify!($name))
        }
    )*};
}

not_supported! {
    cuLinkCreate_v2 cuLinkAddData_v2 cuLinkAddFile_v2 cuLinkComplete cuLinkDestroy
    cuLibraryGetManaged cuLibraryGetUnifiedFunction
    cuLaunch cuLaunchGrid cuLaunchGridAsync cuParamSetSize cuParamSeti cuParamSetf cuParamSetv cuParamSetTexRef
    cuFuncSetBlockShape cuFuncSetSharedSize cuLaunchCooperativeKernelMultiDevice
    cuCtxAttach cuCtxDetach cuCtxRecordEvent cuCtxWaitEvent cuCtxGetExecAffinity
    cuCtxEnablePeerAccess cuCtxDisablePeerAccess cuDeviceGetP2PAttribute cuDeviceGetLuid
    cuDeviceRegisterAsyncNotification cuDeviceUnregisterAsyncNotification
    cuDeviceGetGraphMemAttribute cuDeviceSetGraphMemAttribute cuDeviceGraphMemTrim
    cuDeviceGetTexture1DLinearMaxWidth cuDeviceGetNvSciSyncAttributes
    cuIpcGetEventHandle cuIpcOpenEventHandle cuIpcGetMemHandle cuIpcOpenMemHandle_v2 cuIpcCloseMemHandle
    cuImportExternalMemory cuExternalMemoryGetMappedBuffer cuExternalMemoryGetMappedMipmappedArray
    cuDestroyExternalMemory cuImportExternalSemaphore cuSignalExternalSemaphoresAsync
    cuWaitExternalSemaphoresAsync cuDestroyExternalSemaphore
    cuMemAddressReserve cuMemAddressFree cuMemCreate cuMemRelease cuMemMap cuMemMapArrayAsync cuMemUnmap
    cuMemSetAccess cuMemGetAccess cuMemExportToShareableHandle cuMemImportFromShareableHandle
    cuMemGetAllocationGranularity cuMemGetAllocationPropertiesFromHandle cuMemRetainAllocationHandle
    cuMemGetHandleForAddressRange cuMemBatchDecompressAsync cuMemRangeGetAttribute cuMemRangeGetAttributes
    cuMemPoolSetAccess cuMemPoolGetAccess cuMemPoolExportToShareableHandle cuMemPoolImportFromShareableHandle
    cuMemPoolExportPointer cuMemPoolImportPointer cuMemcpyBatchAsync cuMemcpy3DBatchAsync
    cuMemcpy3DPeer cuMemcpy3DPeerAsync cuPointerSetAttribute
    cuMemcpyAtoA_v2 cuMemcpyAtoD_v2 cuMemcpyAtoH_v2 cuMemcpyAtoHAsync_v2 cuMemcpyDtoA_v2 cuMemcpyHtoA_v2
    cuMemcpyHtoAAsync_v2 cuArrayCreate_v2 cuArrayGetDescriptor_v2 cuArrayDestroy cuArray3DCreate_v2
    cuArray3DGetDescriptor_v2 cuArrayGetSparseProperties cuArrayGetMemoryRequirements cuArrayGetPlane
    cuMipmappedArrayCreate cuMipmappedArrayGetLevel cuMipmappedArrayDestroy cuMipmappedArrayGetSparseProperties
    cuMipmappedArrayGetMemoryRequirements
    cuModuleGetTexRef cuModuleGetSurfRef cuTexRefCreate cuTexRefDestroy cuTexRefSetArray
    cuTexRefSetMipmappedArray cuTexRefSetAddress_v2 cuTexRefSetAddress2D_v3 cuTexRefSetFormat
    cuTexRefSetAddressMode cuTexRefSetFilterMode cuTexRefSetMipmapFilterMode cuTexRefSetMipmapLevelBias
    cuTexRefSetMipmapLevelClamp cuTexRefSetMaxAnisotropy cuTexRefSetBorderColor cuTexRefSetFlags
    cuTexRefGetAddress_v2 cuTexRefGetArray cuTexRefGetMipmappedArray cuTexRefGetAddressMode
    cuTexRefGetFilterMode cuTexRefGetFormat cuTexRefGetMipmapFilterMode cuTexRefGetMipmapLevelBias
    cuTexRefGetMipmapLevelClamp cuTexRefGetMaxAnisotropy cuTexRefGetBorderColor cuTexRefGetFlags
    cuSurfRefSetArray cuSurfRefGetArray cuTexObjectCreate cuTexObjectDestroy cuTexObjectGetResourceDesc
    cuTexObjectGetTextureDesc cuTexObjectGetResourceViewDesc cuSurfObjectCreate cuSurfObjectDestroy
    cuSurfObjectGetResourceDesc cuTensorMapEncodeTiled cuTensorMapEncodeIm2col cuTensorMapEncodeIm2colWide
    cuTensorMapReplaceAddress
    cuStreamWaitValue32_v2 cuStreamWaitValue64_v2 cuStreamBatchMemOp_v2 cuStreamGetAttribute
    cuStreamSetAttribute cuStreamGetCtx_v2 cuStreamGetGreenCtx cuStreamBeginCaptureToGraph
    cuStreamUpdateCaptureDependencies cuStreamUpdateCaptureDependencies_v2
    cuGraphAddNode cuGraphAddNode_v2 cuGraphNodeSetParams cuGraphExecNodeSetParams
    cuGraphAddMemAllocNode cuGraphMemAllocNodeGetParams
    cuGraphAddBatchMemOpNode cuGraphBatchMemOpNodeGetParams cuGraphBatchMemOpNodeSetParams
    cuGraphExecBatchMemOpNodeSetParams cuGraphAddExternalSemaphoresSignalNode
    cuGraphAddExternalSemaphoresWaitNode cuGraphExternalSemaphoresSignalNodeGetParams
    cuGraphExternalSemaphoresSignalNodeSetParams cuGraphExternalSemaphoresWaitNodeGetParams
    cuGraphExternalSemaphoresWaitNodeSetParams cuGraphExecExternalSemaphoresSignalNodeSetParams
    cuGraphExecExternalSemaphoresWaitNodeSetParams cuGraphConditionalHandleCreate
    cuGraphKernelNodeCopyAttributes cuGraphKernelNodeGetAttribute cuGraphKernelNodeSetAttribute
    cuGraphMemcpyNodeGetParams cuGraphMemsetNodeGetParams cuGraphHostNodeGetParams
    cuGraphEventRecordNodeGetEvent cuGraphEventRecordNodeSetEvent cuGraphEventWaitNodeGetEvent
    cuGraphEventWaitNodeSetEvent cuGraphExecEventRecordNodeSetEvent cuGraphExecEventWaitNodeSetEvent
    cuGraphExecChildGraphNodeSetParams cuGraphNodeFindInClone cuGraphRetainUserObject cuGraphReleaseUserObject cuUserObjectCreate
    cuUserObjectRetain cuUserObjectRelease
    cuGraphicsUnregisterResource cuGraphicsSubResourceGetMappedArray
    cuGraphicsResourceGetMappedMipmappedArray cuGraphicsResourceGetMappedPointer_v2
    cuGraphicsResourceSetMapFlags_v2 cuGraphicsMapResources cuGraphicsUnmapResources
    cuMulticastCreate cuMulticastAddDevice cuMulticastBindMem cuMulticastBindAddr cuMulticastUnbind
    cuMulticastGetGranularity cuFlushGPUDirectRDMAWrites cuProfilerInitialize
    cuCoredumpGetAttribute cuCoredumpSetAttribute cuCoredumpGetAttributeGlobal cuCoredumpSetAttributeGlobal
    cuGreenCtxCreate cuGreenCtxDestroy cuCtxFromGreenCtx cuDeviceGetDevResource cuCtxGetDevResource
    cuGreenCtxGetDevResource cuDevSmResourceSplitByCount cuDevResourceGenerateDesc cuGreenCtxRecordEvent
    cuGreenCtxWaitEvent cuGreenCtxStreamCreate cuLogsRegisterCallback cuLogsUnregisterCallback cuLogsCurrent
    cuLogsDumpToFile cuLogsDumpToMemory cuCheckpointProcessGetRestoreThreadId cuCheckpointProcessGetState
    cuCheckpointProcessLock cuCheckpointProcessCheckpoint cuCheckpointProcessRestore cuCheckpointProcessUnlock
}
