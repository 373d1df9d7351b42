// SPDX-License-Identifier: Apache-2.0
#include "app/media/mp4.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
}

#include <memory>

#include "app/media/file.h"
#include "attention/error.h"

namespace sagelab::media {
namespace {

constexpr const char* kEncoders[] = {"libx264", "libopenh264"};

struct Closer {
  void operator()(AVFormatContext* context) const {
    if (context->pb) avio_closep(&context->pb);
    avformat_free_context(context);
  }
  void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
  void operator()(AVFrame* frame) const { av_frame_free(&frame); }
  void operator()(AVPacket* packet) const { av_packet_free(&packet); }
  void operator()(SwsContext* context) const { sws_freeContext(context); }
};
template <typename T>
using Owned = std::unique_ptr<T, Closer>;

const AVCodec* find_encoder() {
  for (const auto* name : kEncoders)
    if (const auto* codec = avcodec_find_encoder_by_name(name)) return codec;
  return nullptr;
}

class Writer {
 public:
  Writer(const std::filesystem::path& file, const Picture& picture, const Mp4Tags& tags)
      : file_(file), shown_(tags.shown), picture_(picture) {
    av_log_set_level(AV_LOG_QUIET);
    open_encoder(tags);
    open_file(tags);
    open_converter();
  }

  void add(int t) {
    check(av_frame_make_writable(frame_.get()), "allocate a frame");
    const uint8_t* const rows[] = {picture_.frame(t).data()};
    const int strides[] = {picture_.width * 3};
    sws_scale(converter_.get(), rows, strides, 0, picture_.height, frame_->data, frame_->linesize);
    frame_->pts = t;
    encode(frame_.get());
  }

  void finish() {
    encode(nullptr);
    check(av_write_trailer(format_.get()), "finish");
    avio_flush(format_->pb);
    check(format_->pb->error, "finish");
    check(avio_closep(&format_->pb), "finish");
  }

 private:
  void check(int code, const char* what) const {
    if (code >= 0) return;
    const int number = AVUNERROR(code);
    if (number == ENOSPC || number == EFBIG || number == EDQUOT || number == EIO || number == EACCES)
      cannot_write(shown_, number);
    char text[AV_ERROR_MAX_STRING_SIZE] = {};
    av_strerror(code, text, sizeof text);
    throw Error("cannot " + std::string(what) + " the video " + shown_.string() + ": " + text,
                "write PNG frames instead: --output folder/");
  }

  void open_encoder(const Mp4Tags& tags) {
    const auto* codec = find_encoder();
    if (!codec)
      throw Error("this machine's libavcodec has no H.264 encoder (libx264 or libopenh264)",
                  "install one, or write PNG frames: --output folder/");
    encoder_.reset(avcodec_alloc_context3(codec));
    encoder_->width = picture_.width;
    encoder_->height = picture_.height;
    encoder_->pix_fmt = AV_PIX_FMT_YUV420P;
    encoder_->framerate = av_d2q(tags.fps, 100000);
    encoder_->time_base = av_inv_q(encoder_->framerate);
    encoder_->color_range = AVCOL_RANGE_MPEG;
    encoder_->colorspace = AVCOL_SPC_BT709;
    encoder_->color_primaries = AVCOL_PRI_BT709;
    encoder_->color_trc = AVCOL_TRC_BT709;
    encoder_->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (std::string_view(codec->name) == "libx264") {
      av_opt_set(encoder_->priv_data, "crf", "16", 0);
      av_opt_set(encoder_->priv_data, "preset", "medium", 0);
    } else {
      encoder_->bit_rate = int64_t(0.3 * picture_.width * picture_.height * tags.fps) + 200000;
    }
    check(avcodec_open2(encoder_.get(), codec, nullptr), "open the encoder of");
  }

  void open_file(const Mp4Tags& tags) {
    AVFormatContext* format = nullptr;
    check(avformat_alloc_output_context2(&format, nullptr, "mp4", file_.c_str()), "open");
    format_.reset(format);
    stream_ = avformat_new_stream(format, nullptr);
    if (!stream_) check(AVERROR(ENOMEM), "open");
    check(avcodec_parameters_from_context(stream_->codecpar, encoder_.get()), "open");
    stream_->time_base = encoder_->time_base;
    stream_->avg_frame_rate = encoder_->framerate;
    av_dict_set(&format->metadata, "comment", tags.comment.c_str(), 0);
    check(avio_open(&format->pb, file_.c_str(), AVIO_FLAG_WRITE), "open");
    AVDictionary* options = nullptr;
    av_dict_set(&options, "movflags", "+faststart", 0);
    const int code = avformat_write_header(format, &options);
    av_dict_free(&options);
    check(code, "begin");
  }

  void open_converter() {
    const int w = picture_.width, h = picture_.height;
    converter_.reset(sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, AV_PIX_FMT_YUV420P,
                                    SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP, nullptr, nullptr,
                                    nullptr));
    if (!converter_)
      throw Error("libswscale cannot convert frames of " + std::to_string(w) + "x" + std::to_string(h));
    const int* bt709 = sws_getCoefficients(SWS_CS_ITU709);
    sws_setColorspaceDetails(converter_.get(), bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
    frame_.reset(av_frame_alloc());
    packet_.reset(av_packet_alloc());
    if (!frame_ || !packet_) throw std::bad_alloc();
    frame_->format = AV_PIX_FMT_YUV420P;
    frame_->width = w;
    frame_->height = h;
    frame_->color_range = AVCOL_RANGE_MPEG;
    frame_->colorspace = AVCOL_SPC_BT709;
    check(av_frame_get_buffer(frame_.get(), 0), "allocate a frame of");
  }

  void encode(const AVFrame* frame) {
    check(avcodec_send_frame(encoder_.get(), frame), "encode");
    for (;;) {
      const int code = avcodec_receive_packet(encoder_.get(), packet_.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
      check(code, "encode");
      packet_->duration = 1;
      av_packet_rescale_ts(packet_.get(), encoder_->time_base, stream_->time_base);
      packet_->stream_index = stream_->index;
      check(av_interleaved_write_frame(format_.get(), packet_.get()), "write");
      check(format_->pb->error, "write");
    }
  }

  const std::filesystem::path &file_, &shown_;
  const Picture& picture_;
  Owned<AVCodecContext> encoder_;
  Owned<AVFormatContext> format_;
  Owned<SwsContext> converter_;
  Owned<AVFrame> frame_;
  Owned<AVPacket> packet_;
  AVStream* stream_ = nullptr;
};

}  // namespace

bool write_mp4(const std::filesystem::path& file, const Picture& picture, const Mp4Tags& tags,
               const std::function<bool()>& cancelled) {
  if (picture.width % 2 || picture.height % 2)
    throw Error("an MP4 needs an even width and height, not " + std::to_string(picture.width) + "x" +
                    std::to_string(picture.height),
                "write PNG frames instead: --output folder/");
  if (!(tags.fps > 0 && tags.fps <= 1000))
    throw Error("an MP4 needs a frame rate above 0 and up to 1000", "see --fps");
  Writer writer(file, picture, tags);
  for (int t = 0; t < picture.frames; ++t) {
    if (cancelled && cancelled()) return false;
    writer.add(t);
  }
  writer.finish();
  return true;
}

std::string mp4_comment(const std::filesystem::path& file) {
  av_log_set_level(AV_LOG_QUIET);
  AVFormatContext* format = nullptr;
  const int code = avformat_open_input(&format, file.c_str(), nullptr, nullptr);
  if (code < 0) {
    char text[AV_ERROR_MAX_STRING_SIZE] = {};
    av_strerror(code, text, sizeof text);
    throw Error(file.string() + ": cannot be read: " + text);
  }
  const auto* tag = av_dict_get(format->metadata, "comment", nullptr, 0);
  std::string comment = tag ? tag->value : "";
  avformat_close_input(&format);
  return comment;
}

std::string h264_encoder() {
  const auto* codec = find_encoder();
  return codec ? codec->name : "";
}

std::string libav_version() {
  const auto text = [](unsigned v) {
    return std::to_string(v >> 16) + "." + std::to_string(v >> 8 & 255) + "." + std::to_string(v & 255);
  };
  return "libavformat " + text(avformat_version()) + ", libavcodec " + text(avcodec_version());
}

}  // namespace sagelab::media
