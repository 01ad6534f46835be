// Streams, events and memory of a device, which tch does not offer, through c10's interface for any device: no header of CUDA
// is needed, so this is built the same on machines without a GPU, where calls end with an error text.
//
// Every function returns null, or a text that says what went wrong and is to be freed with counterpoint_text_free.

#include <ATen/core/TensorBase.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace {

template <typename Job>
char* guarded(Job job) noexcept {
  try {
    job();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("an exception without a text");
  }
}

c10::Device cuda(int32_t index) {
  return c10::Device(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(index));
}

c10::Stream current(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

}  // namespace

extern "C" {

void counterpoint_text_free(char* text) { std::free(text); }

// Makes a stream from the device's pool the calling thread's, behind all that was given to its default stream so far.
char* counterpoint_stream_enter(int32_t index, bool urgent) {
  return guarded([=] {
    const auto device = cuda(index);
    const c10::impl::VirtualGuardImpl guard(device.type());
    c10::Event before(device.type());
    before.record(guard.getDefaultStream(device));
    const auto own = guard.getStreamFromGlobalPool(device, urgent);
    before.block(own);
    guard.exchangeStream(own);
  });
}

// Marks the end of what the calling thread's stream has been given so far.
char* counterpoint_mark_record(int32_t index, void** mark) {
  return guarded([=] {
    const auto device = cuda(index);
    auto event = std::make_unique<c10::Event>(device.type());
    event->record(current(device));
    *mark = event.release();
  });
}

// What the calling thread's stream is given from now on waits, on the device, until the mark is reached.
char* counterpoint_mark_wait(const void* mark) {
  return guarded([=] {
    const auto* event = static_cast<const c10::Event*>(mark);
    event->block(current(cuda(event->device_index())));
  });
}

void counterpoint_mark_free(void* mark) { delete static_cast<c10::Event*>(mark); }

// Keeps a tensor's memory from being given to others before the calling thread's stream is done with it.
char* counterpoint_tensor_used(const void* tensor) {
  return guarded([=] {
    const auto& used = *static_cast<const at::TensorBase*>(tensor);
    const c10::impl::VirtualGuardImpl guard(used.device().type());
    guard.recordDataPtrOnStream(used.storage().data_ptr(), guard.getStream(used.device()));
  });
}

// Bytes in tensors now, the most there were, and the most that were taken from the device.
char* counterpoint_memory(int32_t index, int64_t* bytes) {
  return guarded([=] {
    const auto device = cuda(index);
    const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    constexpr auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    bytes[0] = stats.allocated_bytes[all].current;
    bytes[1] = stats.allocated_bytes[all].peak;
    bytes[2] = stats.reserved_bytes[all].peak;
  });
}

}  // extern "C"
