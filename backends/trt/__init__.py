"""TensorRT, 8.6 to 11, on a Jetson or any other NVIDIA GPU.

One code path: the name-based interface that all these releases have. These members are used without asking:

- module: ``__version__ ILogger IProfiler Builder OnnxParser Runtime NetworkDefinitionCreationFlag BuilderFlag
  MemoryPoolType.WORKSPACE ProfilingVerbosity.DETAILED LayerInformationFormat.JSON TensorIOMode DataType``
- Builder: ``create_network create_builder_config build_serialized_network``; OnnxParser: ``parse num_errors
  get_error(i)`` with ``desc() node()``; network: ``num_inputs get_input``; config: ``set_flag clear_flag
  set_memory_pool_limit profiling_verbosity avg_timing_iterations create_timing_cache set_timing_cache get_timing_cache``
- Runtime: ``deserialize_cuda_engine``; engine: ``num_io_tensors get_tensor_name get_tensor_mode get_tensor_shape
  get_tensor_dtype create_execution_context create_engine_inspector``; inspector: ``get_engine_information``; context:
  ``set_tensor_address execute_async_v3 profiler enqueue_emits_profile report_to_profiler``

These only where they are there: ``OnnxParserFlag.NATIVE_INSTANCENORM``,
``init_libnvinfer_plugins``, ``BuilderFlag.FP16`` and ``INT8``, ``config.max_aux_streams``,
``NetworkDefinitionCreationFlag.EXPLICIT_BATCH`` and ``STRONGLY_TYPED``, ``ParserError.node_name node_operator``,
``DeviceType.DLA``, ``engine.device_memory_size_v2`` before ``device_memory_size``.
"""

from __future__ import annotations

from .backend import TrtBackend

__all__ = ["TrtBackend"]
