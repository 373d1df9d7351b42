# SPDX-License-Identifier: Apache-2.0
# Included by ui/CMakeLists.txt.
set(SAGELAB_UI_METRICS
  metrics/error_map.cpp metrics/figures.cpp metrics/heat_map.cpp metrics/metrics_panel.cpp metrics/timings.cpp)
