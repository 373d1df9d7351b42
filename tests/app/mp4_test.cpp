// SPDX-License-Identifier: Apache-2.0
#include "app/media/mp4.h"

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

#include "attention/error.h"
#include "tests/app/support.h"

namespace sagelab::media {
namespace {

using namespace sagelab::testing;

// A clip as libav reads it back.
struct Decoded {
  Picture picture;
  std::string codec, comment;
  double fps = 0;
  AVPixelFormat format = AV_PIX_FMT_NONE;
};

void append_rgb(const AVFrame& frame, Picture& picture) {
  auto* converter =
      sws_getContext(frame.width, frame.height, AVPixelFormat(frame.format), frame.width, frame.height,
                     AV_PIX_FMT_RGB24, SWS_BICUBIC | SWS_ACCURATE_RND, nullptr, nullptr, nullptr);
  EXPECT_EQ(frame.colorspace, AVCOL_SPC_BT709);
  const int* table = sws_getCoefficients(SWS_CS_ITU709);
  sws_setColorspaceDetails(converter, table, 0, table, 1, 0, 1 << 16, 1 << 16);
  std::vector<uint8_t> rgb(size_t(frame.width) * frame.height * 3);
  uint8_t* const rows[] = {rgb.data()};
  const int strides[] = {frame.width * 3};
  sws_scale(converter, frame.data, frame.linesize, 0, frame.height, rows, strides);
  sws_freeContext(converter);
  picture.width = frame.width;
  picture.height = frame.height;
  picture.frames += 1;
  picture.pixels.insert(picture.pixels.end(), rgb.begin(), rgb.end());
}

Decoded decode(const fs::path& file) {
  Decoded out;
  AVFormatContext* format = nullptr;
  if (avformat_open_input(&format, file.c_str(), nullptr, nullptr) != 0)
    throw std::runtime_error("cannot open");
  avformat_find_stream_info(format, nullptr);
  const auto* stream = format->streams[0];
  const auto* codec = avcodec_find_decoder(stream->codecpar->codec_id);
  auto* context = avcodec_alloc_context3(codec);
  avcodec_parameters_to_context(context, stream->codecpar);
  avcodec_open2(context, codec, nullptr);
  auto* packet = av_packet_alloc();
  auto* frame = av_frame_alloc();
  const auto drain = [&] {
    while (avcodec_receive_frame(context, frame) == 0) append_rgb(*frame, out.picture);
  };
  while (av_read_frame(format, packet) == 0) {
    avcodec_send_packet(context, packet);
    av_packet_unref(packet);
    drain();
  }
  avcodec_send_packet(context, nullptr);
  drain();
  out.codec = codec->name;
  out.format = context->pix_fmt;
  out.fps = av_q2d(stream->avg_frame_rate);
  if (const auto* tag = av_dict_get(format->metadata, "comment", nullptr, 0)) out.comment = tag->value;
  av_frame_free(&frame);
  av_packet_free(&packet);
  avcodec_free_context(&context);
  avformat_close_input(&format);
  return out;
}

double psnr(const Picture& a, const Picture& b) {
  double sum = 0;
  for (size_t i = 0; i < a.pixels.size(); ++i) sum += std::pow(double(a.pixels[i]) - b.pixels[i], 2);
  return 10 * std::log10(255.0 * 255.0 / (sum / double(a.pixels.size())));
}

TEST(Mp4, DecodesToTheSameClip) {
  const TempFolder folder;
  const auto clip = smooth_clip(9, 96, 64);
  const std::string comment = "{\"prompt\":\"ein Kätzchen 猫 \\\"x\\\"\",\"seed\":7}";
  ASSERT_TRUE(write_mp4(folder / "a.mp4", clip, {.fps = 8, .comment = comment, .shown = "a.mp4"}, {}));
  const auto decoded = decode(folder / "a.mp4");
  EXPECT_EQ(decoded.picture.frames, 9);
  EXPECT_EQ(decoded.picture.width, 96);
  EXPECT_EQ(decoded.picture.height, 64);
  EXPECT_EQ(decoded.codec, "h264");
  EXPECT_EQ(decoded.format, AV_PIX_FMT_YUV420P);
  EXPECT_EQ(decoded.fps, 8);
  EXPECT_EQ(decoded.comment, comment);
  EXPECT_GT(psnr(clip, decoded.picture), 35);
}

TEST(Mp4, FractionalRatesAndOneFrame) {
  const TempFolder folder;
  ASSERT_TRUE(
      write_mp4(folder / "a.mp4", smooth_clip(5, 16, 16), {.fps = 23.976, .comment = {}, .shown = {}}, {}));
  EXPECT_NEAR(decode(folder / "a.mp4").fps, 23.976, 1e-3);
  ASSERT_TRUE(
      write_mp4(folder / "b.mp4", smooth_clip(1, 16, 16), {.fps = 8, .comment = {}, .shown = {}}, {}));
  EXPECT_EQ(decode(folder / "b.mp4").picture.frames, 1);
}

TEST(Mp4, TheIndexComesBeforeTheData) {
  const TempFolder folder;
  ASSERT_TRUE(write_mp4(folder / "a.mp4", smooth_clip(9, 96, 64), {}, {}));
  const auto bytes = read_file(folder / "a.mp4");
  const auto moov = bytes.find("moov"), mdat = bytes.find("mdat");
  ASSERT_NE(moov, std::string::npos);
  ASSERT_NE(mdat, std::string::npos);
  EXPECT_LT(moov, mdat);
}

TEST(Mp4, StopsWhenCancelled) {
  const TempFolder folder;
  int asked = 0;
  EXPECT_FALSE(write_mp4(folder / "a.mp4", smooth_clip(9, 96, 64), {}, [&] { return ++asked == 3; }));
  EXPECT_EQ(asked, 3);
}

TEST(Mp4, OddSizesAndImpossibleRatesAreRefused) {
  const TempFolder folder;
  try {
    write_mp4(folder / "a.mp4", smooth_clip(1, 17, 16), {}, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "an MP4 needs an even width and height, not 17x16");
    EXPECT_EQ(e.hint(), "write PNG frames instead: --output folder/");
  }
  try {
    write_mp4(folder / "a.mp4", smooth_clip(1, 16, 16), {.fps = 0, .comment = {}, .shown = {}}, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "an MP4 needs a frame rate above 0 and up to 1000");
  }
}

TEST(Mp4, AFullDiskIsSaid) {
  try {
    write_mp4("/dev/full", smooth_clip(9, 96, 64), {.fps = 8, .comment = {}, .shown = "out/x.mp4"}, {});
    FAIL();
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "cannot write out/x.mp4: No space left on device");
    EXPECT_EQ(e.hint(), "free some space in out, or choose another place");
  }
}

}  // namespace
}  // namespace sagelab::media
