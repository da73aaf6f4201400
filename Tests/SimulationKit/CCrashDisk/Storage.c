#include "Storage.h"

#include <stdlib.h>
#include <string.h>

#define SECTOR 512

struct page {
    int references;
    int is_printed;
    uint64_t print;
    uint8_t bytes[PAGE];
};

/* MARK: bytes */

static void page_release(page *page) {
    if (page && __atomic_sub_fetch(&page->references, 1, __ATOMIC_ACQ_REL) == 0) free(page);
}

/* The page, to be written by nobody else. */
static page *page_own(buffer *buffer, int64_t number) {
    page *old = buffer->pages[number];
    if (old && __atomic_load_n(&old->references, __ATOMIC_ACQUIRE) == 1) {
        old->is_printed = 0;
        return old;
    }
    page *own = malloc(sizeof *own);
    own->references = 1;
    own->is_printed = 0;
    if (old) memcpy(own->bytes, old->bytes, PAGE);
    else memset(own->bytes, 0, PAGE);
    page_release(old);
    buffer->pages[number] = own;
    return own;
}

static int64_t pages_of(int64_t size) { return (size + PAGE - 1) / PAGE; }

void buffer_resize(buffer *buffer, int64_t size) {
    int64_t before = pages_of(buffer->size), after = pages_of(size);
    if (after > buffer->capacity) {
        buffer->capacity = buffer->capacity * 2 > after ? buffer->capacity * 2 : after;
        buffer->pages = realloc(buffer->pages, sizeof(page *) * (size_t)buffer->capacity);
    }
    for (int64_t number = before; number < after; number++) buffer->pages[number] = NULL;
    for (int64_t number = after; number < before; number++) page_release(buffer->pages[number]);
    if (size < buffer->size && size % PAGE != 0 && buffer->pages[after - 1]) {
        memset(page_own(buffer, after - 1)->bytes + size % PAGE, 0, (size_t)(PAGE - size % PAGE));
    }
    buffer->size = size;
}

void buffer_write(buffer *buffer, const void *bytes, int64_t offset, int64_t size) {
    if (offset + size > buffer->size) buffer_resize(buffer, offset + size);
    for (const uint8_t *from = bytes; size > 0;) {
        int64_t begin = offset % PAGE, count = PAGE - begin < size ? PAGE - begin : size;
        memcpy(page_own(buffer, offset / PAGE)->bytes + begin, from, (size_t)count);
        from += count;
        offset += count;
        size -= count;
    }
}

int64_t buffer_read(const buffer *buffer, void *bytes, int64_t offset, int64_t size) {
    int64_t there = buffer->size - offset;
    if (there < 0) there = 0;
    if (there > size) there = size;
    uint8_t *to = bytes;
    for (int64_t left = there; left > 0;) {
        int64_t begin = offset % PAGE, count = PAGE - begin < left ? PAGE - begin : left;
        const page *page = buffer->pages[offset / PAGE];
        if (page) memcpy(to, page->bytes + begin, (size_t)count);
        else memset(to, 0, (size_t)count);
        to += count;
        offset += count;
        left -= count;
    }
    memset(to, 0, (size_t)(size - there));
    return there;
}

void buffer_copy(buffer *to, const buffer *from) {
    if (to == from) return;
    buffer_resize(to, 0);
    buffer_resize(to, from->size);
    for (int64_t number = 0; number < pages_of(from->size); number++) {
        page *shared = from->pages[number];
        if (shared) __atomic_add_fetch(&shared->references, 1, __ATOMIC_RELAXED);
        to->pages[number] = shared;
    }
}

void buffer_free(buffer *buffer) {
    buffer_resize(buffer, 0);
    free(buffer->pages);
    buffer->pages = NULL;
    buffer->capacity = 0;
}

static uint64_t mixed(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
    return value ^ (value >> 31);
}

/* Four lanes, so that the processor multiplies them side by side. */
static uint64_t print_of(const uint8_t *bytes) {
    uint64_t lanes[4] = {1, 2, 3, 4}, words[4];
    for (int at = 0; at < PAGE; at += (int)sizeof words) {
        memcpy(words, bytes + at, sizeof words);
        for (int lane = 0; lane < 4; lane++) {
            lanes[lane] = (lanes[lane] ^ words[lane]) * 0x9E3779B97F4A7C15u;
            lanes[lane] ^= lanes[lane] >> 32;
        }
    }
    return mixed(lanes[0]) ^ mixed(lanes[1] + 1) ^ mixed(lanes[2] + 2) ^ mixed(lanes[3] + 3);
}

uint64_t buffer_print(const buffer *buffer) {
    uint64_t sum = mixed((uint64_t)buffer->size + 1);
    for (int64_t number = 0; number < pages_of(buffer->size); number++) {
        page *page = buffer->pages[number];
        uint64_t print = 0;
        if (page && __atomic_load_n(&page->is_printed, __ATOMIC_ACQUIRE)) {
            print = __atomic_load_n(&page->print, __ATOMIC_RELAXED);
        } else {
            static const uint8_t zeros[PAGE];
            print = print_of(page ? page->bytes : zeros);
            if (page) {
                __atomic_store_n(&page->print, print, __ATOMIC_RELAXED);
                __atomic_store_n(&page->is_printed, 1, __ATOMIC_RELEASE);
            }
        }
        sum += mixed(print + (uint64_t)number * 0x9E3779B97F4A7C15u);
    }
    return sum;
}

/* MARK: changes */

void buffer_apply(buffer *buffer, const change *change) {
    if (change->is_truncate) {
        buffer_resize(buffer, change->size);
    } else {
        buffer_write(buffer, change->bytes, change->offset, change->size);
    }
}

static void change_release(change *change) {
    if (__atomic_sub_fetch(&change->references, 1, __ATOMIC_ACQ_REL) == 0) free(change);
}

static void pendings_reserve(pendings *list, int64_t count) {
    if (count <= list->capacity) return;
    list->capacity = list->capacity * 2 > count ? list->capacity * 2 : count;
    list->all = realloc(list->all, sizeof(pending) * (size_t)list->capacity);
}

void pendings_add(pendings *list, int is_truncate, const void *bytes, int64_t offset, int64_t size) {
    change *added = malloc(sizeof(change) + (is_truncate ? 0 : (size_t)size));
    added->references = 1;
    added->is_truncate = is_truncate;
    added->offset = offset;
    added->size = size;
    if (!is_truncate) memcpy(added->bytes, bytes, (size_t)size);
    pendings_reserve(list, list->count + 1);
    list->all[list->count++] = (pending){.change = added, .is_lost = 0};
}

void pendings_copy(pendings *to, const pendings *from) {
    pendings_clear(to);
    pendings_reserve(to, from->count);
    for (int64_t number = 0; number < from->count; number++) {
        __atomic_add_fetch(&from->all[number].change->references, 1, __ATOMIC_RELAXED);
        to->all[number] = from->all[number];
    }
    to->count = from->count;
}

void pendings_clear(pendings *list) {
    for (int64_t number = 0; number < list->count; number++) change_release(list->all[number].change);
    free(list->all);
    *list = (pendings){0};
}

void pendings_sync(pendings *list, buffer *durable) {
    int64_t left = 0;
    for (int64_t number = 0; number < list->count; number++) {
        pending each = list->all[number];
        if (each.is_lost) {
            list->all[left++] = each;
        } else {
            buffer_apply(durable, each.change);
            change_release(each.change);
        }
    }
    list->count = left;
}

/* SplitMix64. */
static uint64_t draw(uint64_t *state) { return mixed(*state += 0x9E3779B97F4A7C15u); }

/* Piece by piece: there, not there, or nonsense; only the bytes of this write. */
static void tear(const change *torn, buffer *durable, int manner, uint64_t *random) {
    int64_t piece = manner == CRASH_PAGES ? PAGE : SECTOR;
    /* Of eight pieces so many are nonsense. */
    uint64_t nonsenses = manner == CRASH_GARBLE ? 4 : draw(random) % 2;
    for (int64_t begin = 0; begin < torn->size;) {
        int64_t end = (torn->offset + begin) / piece * piece + piece - torn->offset;
        if (end > torn->size) end = torn->size;
        uint64_t which = draw(random) % 8;
        if (which < 4) {
            buffer_write(durable, torn->bytes + begin, torn->offset + begin, end - begin);
        } else if (which < 4 + nonsenses) {
            for (int64_t at = begin; at < end; at += 8) {
                uint64_t nonsense = draw(random);
                buffer_write(durable, &nonsense, torn->offset + at, end - at < 8 ? end - at : 8);
            }
        }
        begin = end;
    }
}

void pendings_lose(const pendings *list, buffer *durable, uint64_t seed, int manner) {
    uint64_t random = seed;
    int64_t kept = 0;
    if (manner == CRASH_IN_ORDER) kept = (int64_t)(draw(&random) % (uint64_t)(list->count + 1));
    /* How many of them are whole: of all cuts some leave nearly everything, and some nearly nothing. */
    uint64_t whole = 1 + draw(&random) % 7;
    for (int64_t number = 0; number < list->count; number++) {
        const change *each = list->all[number].change;
        if (list->all[number].is_lost) continue;
        enum { WHOLE, GONE, TORN } fate;
        switch (manner) {
        case CRASH_KEEP: fate = WHOLE; break;
        case CRASH_DROP: fate = GONE; break;
        case CRASH_IN_ORDER: fate = number < kept ? WHOLE : number == kept ? TORN : GONE; break;
        default: {
            uint64_t drawn = draw(&random) % 8;
            fate = drawn < whole ? WHOLE : drawn % 2 == 0 ? GONE : TORN;
            break;
        }
        }
        if (fate == WHOLE || (each->is_truncate && fate == TORN)) {
            buffer_apply(durable, each);
        } else if (fate == TORN) {
            tear(each, durable, manner, &random);
        }
    }
}

/* MARK: states */

saved *state_add(crash_state *state, const char *path) {
    saved **place = &state->files;
    while (*place && strcmp((*place)->path, path) < 0) place = &(*place)->next;
    saved *added = calloc(1, sizeof *added);
    added->path = strdup(path);
    added->next = *place;
    *place = added;
    return added;
}

saved *state_at(const crash_state *state, const char *path) {
    for (saved *each = state->files; each; each = each->next) {
        if (strcmp(each->path, path) == 0) return each;
    }
    return NULL;
}

static saved *saved_copy(const saved *each) {
    saved *kept = calloc(1, sizeof *kept);
    kept->path = strdup(each->path);
    kept->is_directory = each->is_directory;
    kept->is_database = each->is_database;
    kept->inode = each->inode;
    buffer_copy(&kept->durable, &each->durable);
    return kept;
}

crash_state *crash_state_copy(const crash_state *state) {
    crash_state *copy = calloc(1, sizeof *copy);
    saved **last = &copy->files;
    for (const saved *each = state->files; each; each = each->next) {
        *last = saved_copy(each);
        buffer_copy(&(*last)->visible, &each->visible);
        pendings_copy(&(*last)->unsynced, &each->unsynced);
        last = &(*last)->next;
    }
    return copy;
}

crash_state *crash_state_cut(const crash_state *state, uint64_t seed, int manner) {
    crash_state *left = calloc(1, sizeof *left);
    saved **last = &left->files;
    for (const saved *each = state->files; each; each = each->next) {
        *last = saved_copy(each);
        pendings_lose(&each->unsynced, &(*last)->durable, draw(&seed), manner);
        last = &(*last)->next;
    }
    return left;
}

void crash_state_free(crash_state *state) {
    if (!state) return;
    for (saved *each = state->files, *next; each; each = next) {
        next = each->next;
        pendings_clear(&each->unsynced);
        buffer_free(&each->durable);
        buffer_free(&each->visible);
        free(each->path);
        free(each);
    }
    free(state);
}

int64_t crash_state_unsynced(const crash_state *state) {
    int64_t count = 0;
    for (const saved *each = state->files; each; each = each->next) count += each->unsynced.count;
    return count;
}

uint64_t crash_state_print(const crash_state *state, const char *ending) {
    uint64_t sum = 0;
    size_t length = strlen(ending);
    for (const saved *each = state->files; each; each = each->next) {
        size_t size = strlen(each->path);
        if (size < length || strcmp(each->path + size - length, ending) != 0) continue;
        uint64_t name = each->is_directory ? 1 : 2;
        for (const char *letter = each->path; *letter; letter++) name = mixed(name ^ (uint8_t)*letter);
        sum += mixed(name + buffer_print(&each->durable));
    }
    return sum;
}

int disk_sector_size(sqlite3_file *file) {
    (void)file;
    return PAGE;
}

int disk_characteristics(sqlite3_file *file) {
    (void)file;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}
