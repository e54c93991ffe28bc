/* sley.h - everything. Each header below also stands alone. */
#ifndef SLEY_H
#define SLEY_H

#include <sley/base.h>
#include <sley/version.h>
#include <sley/runtime.h>
#include <sley/fiber.h>
#include <sley/scope.h>
#include <sley/chan.h>
#include <sley/select.h>
#include <sley/sync.h>
#include <sley/time.h>
#include <sley/future.h>
#include <sley/gen.h>
#include <sley/io.h>
#include <sley/fs.h>
#include <sley/net.h>
#include <sley/stream.h>
#include <sley/process.h>
#include <sley/blocking.h>
#include <sley/obs.h>

#endif
