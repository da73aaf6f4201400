#define _GNU_SOURCE
#include "CCrashDisk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
#define SHM_LOCKS 8
#define MARK "crashdisk "

/* Bytes that grow. */
typedef struct {
    uint8_t *bytes;
    int64_t size, capacity;
} buffer;

/* A write or truncation that was not synced. */
typedef struct change {
    struct change *next;
    int is_truncate;
    /* A sync that should have written it has failed. */
    int is_lost;
    int64_t offset, size;
    uint8_t bytes[];
} change;

/* The index of the write-ahead log, shared by the handles of one file. */
typedef struct {
    int references;
    int count;
    uint8_t **regions;
    int shared[SHM_LOCKS];
    int exclusive[SHM_LOCKS];
} shared_index;

/* A file, whatever its name is at the moment: known by its marker, which is held open. */
typedef struct file {
    struct file *next;
    int64_t number;
    int descriptor;
    dev_t device;
    ino_t inode;
    buffer visible, durable;
    change *first, *last;
    shared_index *index;
    /* Locks of SQLite's rollback mode. */
    int shared;
    struct handle *reserved, *pending, *exclusive;
    int handles;
    int is_orphan;
} file;

struct crash_disk {
    struct crash_disk *next;
    char *directory;
    size_t length;
    file *files;
    int is_powered;
    /* Handles of an earlier start are dead. */
    int64_t start;
    int64_t counts[5];
    int64_t cut_at;
    int fault_kinds, fault_code, fault_for_ever;
    int64_t fault_at, failures;
    int lies;
    void (*watcher)(void *);
    void *watcher_context;
    crash_state *at_cut;
    int handles;
    int is_gone;
};

typedef struct handle {
    sqlite3_file base;
    crash_disk *disk;
    file *file;
    shared_index *index;
    int64_t start;
    int lock;
    int index_shared, index_exclusive;
    int deletes_on_close;
    char *path;
} handle;

typedef struct saved {
    struct saved *next;
    /* Below the disk's directory, beginning with a slash. */
    char *path;
    int is_directory;
    int is_database;
    /* Of its marker; a fence remembers it. */
    ino_t inode;
    buffer durable;
    change *first, *last;
} saved;

struct crash_state {
    saved *files;
};

static pthread_mutex_t lock_of_all = PTHREAD_MUTEX_INITIALIZER;
static crash_disk *disks;
static sqlite3_vfs *real;
static sqlite3_vfs ours;
static int64_t last_number;

/* MARK: bytes */

static void buffer_resize(buffer *buffer, int64_t size) {
    if (size > buffer->capacity) {
        int64_t capacity = buffer->capacity * 2 > size ? buffer->capacity * 2 : size;
        buffer->bytes = realloc(buffer->bytes, (size_t)capacity);
        buffer->capacity = capacity;
    }
    if (size > buffer->size) memset(buffer->bytes + buffer->size, 0, (size_t)(size - buffer->size));
    buffer->size = size;
}

static void buffer_write(buffer *buffer, const uint8_t *bytes, int64_t offset, int64_t size) {
    if (offset + size > buffer->size) buffer_resize(buffer, offset + size);
    memcpy(buffer->bytes + offset, bytes, (size_t)size);
}

static void buffer_copy(buffer *to, const buffer *from) {
    buffer_resize(to, 0);
    if (from->size > 0) buffer_write(to, from->bytes, 0, from->size);
}

static void buffer_apply(buffer *buffer, const change *change) {
    if (change->is_truncate) {
        buffer_resize(buffer, change->size);
    } else {
        buffer_write(buffer, change->bytes, change->offset, change->size);
    }
}

static void add_change(change **first, change **last, int is_truncate, int is_lost, const void *bytes, int64_t offset,
                       int64_t size) {
    change *added = malloc(sizeof(change) + (is_truncate ? 0 : (size_t)size));
    added->next = NULL;
    added->is_truncate = is_truncate;
    added->is_lost = is_lost;
    added->offset = offset;
    added->size = size;
    if (!is_truncate) memcpy(added->bytes, bytes, (size_t)size);
    if (*last) (*last)->next = added;
    else *first = added;
    *last = added;
}

static void free_changes(change **first, change **last) {
    for (change *each = *first, *next; each; each = next) {
        next = each->next;
        free(each);
    }
    *first = *last = NULL;
}

/* SplitMix64. */
static uint64_t draw(uint64_t *state) {
    uint64_t mixed = (*state += 0x9E3779B97F4A7C15u);
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
    return mixed ^ (mixed >> 31);
}

/* MARK: files and their markers */

/* A marker has content exactly if its file has: others look at sizes. */
static void mark(file *file) {
    struct stat state;
    int has = fstat(file->descriptor, &state) == 0 && state.st_size > 0;
    if ((file->visible.size > 0) == has) return;
    if (file->visible.size == 0) {
        if (ftruncate(file->descriptor, 0) != 0) return;
    } else {
        char text[40];
        int length = snprintf(text, sizeof text, MARK "%lld\n", (long long)file->number);
        if (pwrite(file->descriptor, text, (size_t)length, 0) != length) return;
    }
}

static void index_release(shared_index *index) {
    if (!index || --index->references > 0) return;
    for (int region = 0; region < index->count; region++) free(index->regions[region]);
    free(index->regions);
    free(index);
}

static void file_free(file *file) {
    free_changes(&file->first, &file->last);
    free(file->visible.bytes);
    free(file->durable.bytes);
    if (file->descriptor >= 0) close(file->descriptor);
    index_release(file->index);
    free(file);
}

static file *file_numbered(crash_disk *disk, int64_t number) {
    for (file *each = disk->files; each; each = each->next) {
        if (each->number == number) return each;
    }
    return NULL;
}

/* The file of a path; a real file that was put or copied there becomes one. NULL when there is none. */
static file *file_at(crash_disk *disk, const char *path, int creates) {
    struct stat state;
    if (stat(path, &state) == 0) {
        if (!S_ISREG(state.st_mode)) return NULL;
        for (file *each = disk->files; each; each = each->next) {
            if (each->inode == state.st_ino && each->device == state.st_dev) return each;
        }
    } else if (!creates) {
        return NULL;
    }
    int descriptor = open(path, O_RDWR | O_CLOEXEC | (creates ? O_CREAT : 0), 0640);
    if (descriptor < 0 || fstat(descriptor, &state) != 0) {
        if (descriptor >= 0) close(descriptor);
        return NULL;
    }
    file *made = calloc(1, sizeof *made);
    made->number = ++last_number;
    made->descriptor = descriptor;
    made->device = state.st_dev;
    made->inode = state.st_ino;
    if (state.st_size > 0) {
        uint8_t *bytes = malloc((size_t)state.st_size + 1);
        ssize_t count = pread(descriptor, bytes, (size_t)state.st_size, 0);
        if (count < 0) count = 0;
        bytes[count] = 0;
        if (strncmp((char *)bytes, MARK, strlen(MARK)) == 0) {
            /* A copy that somebody has made of a file. Nobody has synced it here. */
            file *original = file_numbered(disk, atoll((char *)bytes + strlen(MARK)));
            if (original && original->visible.size > 0) {
                buffer_copy(&made->visible, &original->visible);
                add_change(&made->first, &made->last, 0, 0, made->visible.bytes, 0, made->visible.size);
            }
        } else {
            buffer_write(&made->visible, bytes, 0, count);
            buffer_copy(&made->durable, &made->visible);
        }
        free(bytes);
        if (ftruncate(descriptor, 0) != 0) perror(path);
        mark(made);
    }
    made->next = disk->files;
    disk->files = made;
    return made;
}

static void file_drop_if_gone(crash_disk *disk, file *gone) {
    if (gone->handles > 0 || !gone->is_orphan) return;
    for (file **each = &disk->files; *each; each = &(*each)->next) {
        if (*each == gone) {
            *each = gone->next;
            file_free(gone);
            return;
        }
    }
}

/* MARK: states */

static void capture_directory(crash_disk *disk, const char *directory, crash_state *state) {
    DIR *listing = opendir(directory);
    if (!listing) return;
    struct dirent *entry;
    while ((entry = readdir(listing))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char path[PATH_MAX];
        struct stat information;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (lstat(path, &information) != 0) continue;
        if (!S_ISREG(information.st_mode) && !S_ISDIR(information.st_mode)) continue;
        saved *kept = calloc(1, sizeof *kept);
        kept->path = strdup(path + disk->length);
        kept->inode = information.st_ino;
        kept->next = state->files;
        state->files = kept;
        if (S_ISDIR(information.st_mode)) {
            kept->is_directory = 1;
            capture_directory(disk, path, state);
            continue;
        }
        file *known = NULL;
        for (file *each = disk->files; each && !known; each = each->next) {
            if (each->inode == information.st_ino && each->device == information.st_dev) known = each;
        }
        if (!known && information.st_size > 0) {
            /* A copy of a file that nobody has opened yet. */
            char text[sizeof MARK] = "";
            int descriptor = open(path, O_RDONLY | O_CLOEXEC);
            ssize_t count = descriptor < 0 ? 0 : pread(descriptor, text, sizeof text - 1, 0);
            if (descriptor >= 0) close(descriptor);
            if (count == sizeof text - 1 && memcmp(text, MARK, sizeof text - 1) == 0) known = file_at(disk, path, 0);
        }
        if (known) {
            kept->is_database = 1;
            buffer_copy(&kept->durable, &known->durable);
            for (change *each = known->first; each; each = each->next) {
                add_change(&kept->first, &kept->last, each->is_truncate, each->is_lost, each->bytes, each->offset,
                           each->size);
            }
        } else if (information.st_size > 0) {
            int descriptor = open(path, O_RDONLY | O_CLOEXEC);
            if (descriptor < 0) continue;
            buffer_resize(&kept->durable, information.st_size);
            ssize_t count = pread(descriptor, kept->durable.bytes, (size_t)information.st_size, 0);
            buffer_resize(&kept->durable, count < 0 ? 0 : count);
            close(descriptor);
        }
    }
    closedir(listing);
}

static crash_state *state_copy(const crash_state *state) {
    crash_state *copy = calloc(1, sizeof *copy);
    saved **last = &copy->files;
    for (const saved *each = state->files; each; each = each->next) {
        saved *kept = calloc(1, sizeof *kept);
        kept->path = strdup(each->path);
        kept->is_directory = each->is_directory;
        kept->is_database = each->is_database;
        kept->inode = each->inode;
        buffer_copy(&kept->durable, &each->durable);
        for (change *one = each->first; one; one = one->next) {
            add_change(&kept->first, &kept->last, one->is_truncate, one->is_lost, one->bytes, one->offset, one->size);
        }
        *last = kept;
        last = &kept->next;
    }
    return copy;
}

static crash_state *capture(crash_disk *disk) {
    if (disk->at_cut) return state_copy(disk->at_cut);
    crash_state *state = calloc(1, sizeof *state);
    capture_directory(disk, disk->directory, state);
    return state;
}

void crash_state_free(crash_state *state) {
    if (!state) return;
    for (saved *each = state->files, *next; each; each = next) {
        next = each->next;
        free_changes(&each->first, &each->last);
        free(each->durable.bytes);
        free(each->path);
        free(each);
    }
    free(state);
}

int64_t crash_state_unsynced(const crash_state *state) {
    int64_t count = 0;
    for (const saved *each = state->files; each; each = each->next) {
        for (change *one = each->first; one; one = one->next) count++;
    }
    return count;
}

static const saved *saved_at(const crash_state *state, const char *path) {
    for (const saved *each = state->files; each; each = each->next) {
        if (strcmp(each->path, path) == 0) return each;
    }
    return NULL;
}

static void remove_others(crash_disk *disk, const char *directory, const crash_state *state) {
    DIR *listing = opendir(directory);
    if (!listing) return;
    struct dirent *entry;
    while ((entry = readdir(listing))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        char path[PATH_MAX];
        struct stat information;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        if (lstat(path, &information) != 0) continue;
        if (S_ISDIR(information.st_mode)) {
            remove_others(disk, path, state);
            if (!saved_at(state, path + disk->length)) rmdir(path);
        } else {
            const saved *kept = saved_at(state, path + disk->length);
            /* A file that is kept stays the same file, if it is: a fence knows its inode. */
            if (!kept) unlink(path);
        }
    }
    closedir(listing);
}

/* A fence names the inode of the database; it is another one if the database had to be made again. */
static int mend_inode(buffer *buffer, ino_t old, ino_t new) {
    if (buffer->size == 0 || buffer->size > 4000) return 0;
    char text[4001], former[60], mended[4100];
    memcpy(text, buffer->bytes, (size_t)buffer->size);
    text[buffer->size] = 0;
    snprintf(former, sizeof former, "\"inode\":%llu,", (unsigned long long)old);
    char *found = strstr(text, former);
    if (!found) return 0;
    int length = snprintf(mended, sizeof mended, "%.*s\"inode\":%llu,%s", (int)(found - text), text,
                          (unsigned long long)new, found + strlen(former));
    buffer_resize(buffer, 0);
    buffer_write(buffer, (uint8_t *)mended, 0, length);
    return 1;
}

/* What a power cut leaves of one file. */
static void lose(file *file, uint64_t *random, int manner) {
    int64_t count = 0, kept = 0;
    for (change *each = file->first; each; each = each->next) count++;
    if (manner == CRASH_IN_ORDER) kept = (int64_t)(draw(random) % (uint64_t)(count + 1));
    int64_t number = 0;
    for (change *each = file->first; each; each = each->next, number++) {
        if (each->is_lost) continue;
        int fate;
        switch (manner) {
        case CRASH_KEEP: fate = 0; break;
        case CRASH_DROP: fate = 1; break;
        case CRASH_IN_ORDER: fate = number < kept ? 0 : number == kept ? 2 : 1; break;
        default: fate = (int)(draw(random) % 8); break;
        }
        if (each->is_truncate) {
            if (fate == 0 || fate > 3) buffer_apply(&file->durable, each);
            continue;
        }
        if (fate == 1 || fate == 4) continue;
        if (fate != 2 && fate != 3) {
            buffer_apply(&file->durable, each);
            continue;
        }
        /* Sector by sector: there, not there, or nonsense; only the bytes of this write. */
        for (int64_t begin = 0; begin < each->size;) {
            int64_t end = (each->offset + begin) / SECTOR * SECTOR + SECTOR - each->offset;
            if (end > each->size) end = each->size;
            uint64_t which = draw(random) % 8;
            if (which < 4) {
                buffer_write(&file->durable, each->bytes + begin, each->offset + begin, end - begin);
            } else if (which == 4 && fate == 3) {
                for (int64_t at = begin; at < end; at++) {
                    uint8_t byte = (uint8_t)draw(random);
                    buffer_write(&file->durable, &byte, each->offset + at, 1);
                }
            }
            begin = end;
        }
    }
    free_changes(&file->first, &file->last);
    buffer_copy(&file->visible, &file->durable);
}

static void put_back(crash_disk *disk, const crash_state *state, uint64_t seed, int manner, int is_cut) {
    disk->start++;
    disk->is_powered = 1;
    disk->cut_at = 0;
    disk->fault_at = 0;
    crash_state *own = NULL;
    if (state == disk->at_cut) {
        own = disk->at_cut;
        disk->at_cut = NULL;
    } else {
        crash_state_free(disk->at_cut);
        disk->at_cut = NULL;
    }
    remove_others(disk, disk->directory, state);
    /* Files that handles still look at are kept until those close. */
    for (file **each = &disk->files; *each;) {
        file *old = *each;
        index_release(old->index);
        old->index = NULL;
        if (old->handles > 0) {
            old->is_orphan = 1;
            old->inode = 0;
            each = &old->next;
        } else {
            *each = old->next;
            file_free(old);
        }
    }
    uint64_t random = seed;
    /* Directories come before what lies in them: the list has them after. */
    for (const saved *each = state->files; each; each = each->next) {
        if (!each->is_directory) continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", disk->directory, each->path);
        for (char *slash = path + disk->length; slash; slash = strchr(slash + 1, '/')) {
            char kept = *slash;
            *slash = 0;
            mkdir(path, 0750);
            *slash = kept;
        }
        mkdir(path, 0750);
    }
    for (const saved *each = state->files; each; each = each->next) {
        if (!each->is_database) continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", disk->directory, each->path);
        if (truncate(path, 0) != 0 && errno != ENOENT) perror(path);
        file *made = file_at(disk, path, 1);
        if (!made) continue;
        buffer_copy(&made->durable, &each->durable);
        buffer_copy(&made->visible, &each->durable);
        for (change *one = each->first; one; one = one->next) {
            add_change(&made->first, &made->last, one->is_truncate, one->is_lost, one->bytes, one->offset, one->size);
            buffer_apply(&made->visible, one);
        }
        if (is_cut) lose(made, &random, manner);
        mark(made);
    }
    for (const saved *each = state->files; each; each = each->next) {
        if (each->is_database || each->is_directory) continue;
        char path[PATH_MAX];
        buffer bytes = {0};
        buffer_copy(&bytes, &each->durable);
        for (const saved *other = state->files; other; other = other->next) {
            struct stat information;
            snprintf(path, sizeof path, "%s%s", disk->directory, other->path);
            if (other->is_database && stat(path, &information) == 0 &&
                mend_inode(&bytes, other->inode, information.st_ino)) {
                break;
            }
        }
        snprintf(path, sizeof path, "%s%s", disk->directory, each->path);
        int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
        if (descriptor >= 0) {
            if (bytes.size > 0 && pwrite(descriptor, bytes.bytes, (size_t)bytes.size, 0) != bytes.size) perror(path);
            close(descriptor);
        }
        free(bytes.bytes);
    }
    crash_state_free(own);
}

/* MARK: counting, failing, cutting */

static int place_of(int kind) {
    switch (kind) {
    case CRASH_READ: return 0;
    case CRASH_WRITE: return 1;
    case CRASH_SYNC: return 2;
    case CRASH_TRUNCATE: return 3;
    default: return 4;
    }
}

static void cut(crash_disk *disk) {
    if (!disk->is_powered) return;
    disk->at_cut = capture(disk);
    disk->is_powered = 0;
}

/* Counts an operation. Returns 0 when it goes on, -1 when the power goes with it, else the code it fails with. */
static int begin(crash_disk *disk, int kind) {
    disk->counts[place_of(kind)]++;
    if ((kind & CRASH_CHANGES) && disk->cut_at > 0 && --disk->cut_at == 0) return -1;
    if ((kind & disk->fault_kinds) && disk->fault_at > 0) {
        if (disk->fault_at > 1) {
            disk->fault_at--;
        } else {
            if (!disk->fault_for_ever) disk->fault_at = 0;
            disk->failures++;
            return disk->fault_code;
        }
    }
    return 0;
}

/* Lets go of the lock, tells whoever watches, and takes it again. */
static void tell(crash_disk *disk) {
    if (!disk->watcher || !disk->is_powered) return;
    void (*watcher)(void *) = disk->watcher;
    void *context = disk->watcher_context;
    pthread_mutex_unlock(&lock_of_all);
    watcher(context);
    pthread_mutex_lock(&lock_of_all);
}

static int is_dead(handle *handle) {
    return handle->disk->is_gone || !handle->disk->is_powered || handle->start != handle->disk->start;
}

/* MARK: what SQLite calls, on a file */

static void let_go_of_locks(handle *handle) {
    file *file = handle->file;
    if (handle->start != handle->disk->start) return;
    if (handle->lock >= SQLITE_LOCK_SHARED) file->shared--;
    if (file->reserved == handle) file->reserved = NULL;
    if (file->pending == handle) file->pending = NULL;
    if (file->exclusive == handle) file->exclusive = NULL;
    handle->lock = SQLITE_LOCK_NONE;
}

static void leave_index(handle *handle) {
    shared_index *index = handle->index;
    if (!index) return;
    for (int number = 0; number < SHM_LOCKS; number++) {
        if (handle->index_shared & (1 << number)) index->shared[number]--;
        if (handle->index_exclusive & (1 << number)) index->exclusive[number]--;
    }
    handle->index_shared = handle->index_exclusive = 0;
    handle->index = NULL;
    /* The file holds one reference itself; the last handle ends it. */
    if (index->references == 2 && handle->file->index == index) {
        handle->file->index = NULL;
        index_release(index);
    }
    index_release(index);
}

static void disk_drop_if_gone(crash_disk *disk) {
    if (!disk->is_gone || disk->handles > 0) return;
    for (file *each = disk->files, *next; each; each = next) {
        next = each->next;
        file_free(each);
    }
    crash_state_free(disk->at_cut);
    free(disk->directory);
    free(disk);
}

static int x_close(sqlite3_file *base) {
    handle *closed = (handle *)base;
    pthread_mutex_lock(&lock_of_all);
    crash_disk *disk = closed->disk;
    let_go_of_locks(closed);
    leave_index(closed);
    if (closed->deletes_on_close && !is_dead(closed)) {
        unlink(closed->path);
        closed->file->is_orphan = 1;
    }
    closed->file->handles--;
    disk->handles--;
    file_drop_if_gone(disk, closed->file);
    disk_drop_if_gone(disk);
    free(closed->path);
    pthread_mutex_unlock(&lock_of_all);
    closed->base.pMethods = NULL;
    return SQLITE_OK;
}

static int x_read(sqlite3_file *base, void *bytes, int count, sqlite3_int64 offset) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = is_dead(handle) ? SQLITE_IOERR_READ : begin(handle->disk, CRASH_READ);
    if (code == 0) {
        buffer *visible = &handle->file->visible;
        int64_t there = visible->size - offset;
        if (there < 0) there = 0;
        if (there > count) there = count;
        if (there > 0) memcpy(bytes, visible->bytes + offset, (size_t)there);
        if (there < count) {
            memset((uint8_t *)bytes + there, 0, (size_t)(count - there));
            code = SQLITE_IOERR_SHORT_READ;
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_write(sqlite3_file *base, const void *bytes, int count, sqlite3_int64 offset) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_IOERR_WRITE;
    if (!is_dead(handle)) {
        file *file = handle->file;
        code = begin(handle->disk, CRASH_WRITE);
        int written = code <= 0 ? count : count / 2;
        if (written > 0) {
            add_change(&file->first, &file->last, 0, 0, bytes, offset, written);
            buffer_write(&file->visible, bytes, offset, written);
            if (file->visible.size <= offset + written) mark(file);
        }
        if (code < 0) {
            cut(handle->disk);
            code = SQLITE_IOERR_WRITE;
        }
        tell(handle->disk);
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_truncate(sqlite3_file *base, sqlite3_int64 size) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_IOERR_TRUNCATE;
    if (!is_dead(handle)) {
        file *file = handle->file;
        code = begin(handle->disk, CRASH_TRUNCATE);
        if (code <= 0) {
            add_change(&file->first, &file->last, 1, 0, NULL, 0, size);
            buffer_resize(&file->visible, size);
            mark(file);
        }
        if (code < 0) {
            cut(handle->disk);
            code = SQLITE_IOERR_TRUNCATE;
        }
        tell(handle->disk);
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_sync(sqlite3_file *base, int flags) {
    (void)flags;
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_IOERR_FSYNC;
    if (!is_dead(handle)) {
        file *file = handle->file;
        tell(handle->disk);
        code = begin(handle->disk, CRASH_SYNC);
        if (code < 0) {
            cut(handle->disk);
            code = SQLITE_IOERR_FSYNC;
        } else if (code > 0) {
            /* The system has dropped the pages, and calls them clean. */
            for (change *each = file->first; each; each = each->next) each->is_lost = 1;
        } else if (!handle->disk->lies) {
            change *lost_first = NULL, *lost_last = NULL;
            for (change *each = file->first; each; each = each->next) {
                if (each->is_lost) {
                    add_change(&lost_first, &lost_last, each->is_truncate, 1, each->bytes, each->offset, each->size);
                } else {
                    buffer_apply(&file->durable, each);
                }
            }
            free_changes(&file->first, &file->last);
            file->first = lost_first;
            file->last = lost_last;
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_file_size(sqlite3_file *base, sqlite3_int64 *size) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = is_dead(handle) ? SQLITE_IOERR_FSTAT : SQLITE_OK;
    *size = handle->file->visible.size;
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_lock(sqlite3_file *base, int wanted) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_OK;
    file *file = handle->file;
    if (is_dead(handle)) {
        code = SQLITE_IOERR_LOCK;
    } else if (handle->lock < wanted) {
        int is_other_pending = file->pending && file->pending != handle;
        if (handle->lock == SQLITE_LOCK_NONE) {
            if (is_other_pending || (file->exclusive && file->exclusive != handle)) {
                code = SQLITE_BUSY;
            } else {
                file->shared++;
                handle->lock = SQLITE_LOCK_SHARED;
            }
        }
        if (code == SQLITE_OK && wanted >= SQLITE_LOCK_RESERVED && handle->lock < SQLITE_LOCK_RESERVED) {
            if (wanted == SQLITE_LOCK_RESERVED) {
                if ((file->reserved && file->reserved != handle) || is_other_pending) {
                    code = SQLITE_BUSY;
                } else {
                    file->reserved = handle;
                    handle->lock = SQLITE_LOCK_RESERVED;
                }
            }
        }
        if (code == SQLITE_OK && wanted == SQLITE_LOCK_EXCLUSIVE) {
            if (is_other_pending || (file->reserved && file->reserved != handle)) {
                code = SQLITE_BUSY;
            } else {
                file->pending = handle;
                handle->lock = SQLITE_LOCK_PENDING;
                if (file->shared > 1) {
                    code = SQLITE_BUSY;
                } else {
                    file->exclusive = handle;
                    handle->lock = SQLITE_LOCK_EXCLUSIVE;
                }
            }
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_unlock(sqlite3_file *base, int wanted) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    file *file = handle->file;
    if (handle->start == handle->disk->start && handle->lock > wanted) {
        if (file->reserved == handle) file->reserved = NULL;
        if (file->pending == handle) file->pending = NULL;
        if (file->exclusive == handle) file->exclusive = NULL;
        if (wanted == SQLITE_LOCK_NONE && handle->lock >= SQLITE_LOCK_SHARED) file->shared--;
        handle->lock = wanted;
    }
    pthread_mutex_unlock(&lock_of_all);
    return SQLITE_OK;
}

static int x_check_reserved_lock(sqlite3_file *base, int *result) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    *result = handle->file->reserved || handle->file->pending || handle->file->exclusive;
    int code = is_dead(handle) ? SQLITE_IOERR_CHECKRESERVEDLOCK : SQLITE_OK;
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_file_control(sqlite3_file *base, int operation, void *argument) {
    (void)base;
    if (operation == SQLITE_FCNTL_VFSNAME) {
        *(char **)argument = sqlite3_mprintf("%s", ours.zName);
        return SQLITE_OK;
    }
    return SQLITE_NOTFOUND;
}

/* As SQLite's own for this system says. */
static int x_sector_size(sqlite3_file *base) {
    (void)base;
    return 4096;
}

static int x_device_characteristics(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

/* MARK: what SQLite calls, on the index of a write-ahead log */

static int x_shm_map(sqlite3_file *base, int region, int size, int extends, void volatile **bytes) {
    handle *handle = (struct handle *)base;
    *bytes = NULL;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_OK;
    if (is_dead(handle)) {
        code = SQLITE_IOERR_SHMMAP;
    } else {
        if (!handle->index) {
            if (!handle->file->index) {
                handle->file->index = calloc(1, sizeof(shared_index));
                handle->file->index->references = 1;
            }
            handle->index = handle->file->index;
            handle->index->references++;
        }
        shared_index *index = handle->index;
        if (region >= index->count && extends) {
            index->regions = realloc(index->regions, sizeof(uint8_t *) * (size_t)(region + 1));
            while (index->count <= region) index->regions[index->count++] = calloc(1, (size_t)size);
        }
        if (region < index->count) *bytes = index->regions[region];
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_shm_lock(sqlite3_file *base, int offset, int count, int flags) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&lock_of_all);
    int code = SQLITE_OK;
    shared_index *index = handle->index;
    if (flags & SQLITE_SHM_UNLOCK) {
        for (int number = offset; index && number < offset + count; number++) {
            if (handle->index_shared & (1 << number)) index->shared[number]--;
            if (handle->index_exclusive & (1 << number)) index->exclusive[number]--;
            handle->index_shared &= ~(1 << number);
            handle->index_exclusive &= ~(1 << number);
        }
    } else if (is_dead(handle) || !index) {
        code = SQLITE_IOERR_SHMLOCK;
    } else {
        for (int number = offset; number < offset + count; number++) {
            int bit = 1 << number;
            int others_shared = index->shared[number] - (handle->index_shared & bit ? 1 : 0);
            int others_exclusive = index->exclusive[number] - (handle->index_exclusive & bit ? 1 : 0);
            if (others_exclusive > 0 || ((flags & SQLITE_SHM_EXCLUSIVE) && others_shared > 0)) code = SQLITE_BUSY;
        }
        for (int number = offset; code == SQLITE_OK && number < offset + count; number++) {
            int bit = 1 << number;
            if (flags & SQLITE_SHM_EXCLUSIVE) {
                if (!(handle->index_exclusive & bit)) index->exclusive[number]++;
                handle->index_exclusive |= bit;
            } else {
                if (!(handle->index_shared & bit)) index->shared[number]++;
                handle->index_shared |= bit;
            }
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static void x_shm_barrier(sqlite3_file *base) {
    (void)base;
    __sync_synchronize();
    pthread_mutex_lock(&lock_of_all);
    pthread_mutex_unlock(&lock_of_all);
}

static int x_shm_unmap(sqlite3_file *base, int deletes) {
    (void)deletes;
    pthread_mutex_lock(&lock_of_all);
    leave_index((handle *)base);
    pthread_mutex_unlock(&lock_of_all);
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_file_size,
    .xLock = x_lock,
    .xUnlock = x_unlock,
    .xCheckReservedLock = x_check_reserved_lock,
    .xFileControl = x_file_control,
    .xSectorSize = x_sector_size,
    .xDeviceCharacteristics = x_device_characteristics,
    .xShmMap = x_shm_map,
    .xShmLock = x_shm_lock,
    .xShmBarrier = x_shm_barrier,
    .xShmUnmap = x_shm_unmap,
};

/* MARK: what SQLite calls, on names */

/* The disk that a path lies on. To be called with the lock. */
static crash_disk *disk_of(const char *path) {
    if (!path) return NULL;
    for (crash_disk *each = disks; each; each = each->next) {
        if (strncmp(path, each->directory, each->length) == 0 && path[each->length] == '/') return each;
    }
    return NULL;
}

static int x_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *flags_out) {
    (void)vfs;
    pthread_mutex_lock(&lock_of_all);
    crash_disk *disk = disk_of(path);
    if (!disk) {
        pthread_mutex_unlock(&lock_of_all);
        return real->xOpen(real, path, base, flags, flags_out);
    }
    handle *opened = (handle *)base;
    memset(opened, 0, sizeof *opened);
    int code = SQLITE_CANTOPEN;
    if (disk->is_powered) {
        file *file = file_at(disk, path, (flags & SQLITE_OPEN_CREATE) != 0);
        if (file) {
            opened->base.pMethods = &methods;
            opened->disk = disk;
            opened->file = file;
            opened->start = disk->start;
            opened->deletes_on_close = (flags & SQLITE_OPEN_DELETEONCLOSE) != 0;
            opened->path = strdup(path);
            file->handles++;
            disk->handles++;
            if (flags_out) *flags_out = flags;
            code = SQLITE_OK;
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return code;
}

static int x_delete(sqlite3_vfs *vfs, const char *path, int syncs) {
    (void)vfs;
    pthread_mutex_lock(&lock_of_all);
    crash_disk *disk = disk_of(path);
    int code = SQLITE_IOERR_DELETE;
    if (disk && disk->is_powered) {
        tell(disk);
        file *file = file_at(disk, path, 0);
        if (!file) {
            code = SQLITE_IOERR_DELETE_NOENT;
        } else {
            code = begin(disk, CRASH_DELETE);
            if (code < 0) {
                cut(disk);
                code = SQLITE_IOERR_DELETE;
            } else if (code == 0) {
                unlink(path);
                file->is_orphan = 1;
                file->inode = 0;
                file_drop_if_gone(disk, file);
            }
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return disk ? code : real->xDelete(real, path, syncs);
}

static int x_access(sqlite3_vfs *vfs, const char *path, int flags, int *result) {
    (void)vfs;
    pthread_mutex_lock(&lock_of_all);
    crash_disk *disk = disk_of(path);
    int code = SQLITE_OK;
    if (disk) {
        if (!disk->is_powered) {
            code = SQLITE_IOERR_ACCESS;
        } else {
            file *file = file_at(disk, path, 0);
            *result = file && (flags != SQLITE_ACCESS_EXISTS || file->visible.size > 0);
        }
    }
    pthread_mutex_unlock(&lock_of_all);
    return disk ? code : real->xAccess(real, path, flags, result);
}

static int x_full_pathname(sqlite3_vfs *vfs, const char *path, int size, char *full) {
    (void)vfs;
    return real->xFullPathname(real, path, size, full);
}

static int x_randomness(sqlite3_vfs *vfs, int size, char *bytes) {
    (void)vfs;
    return real->xRandomness(real, size, bytes);
}

static int x_sleep(sqlite3_vfs *vfs, int microseconds) {
    (void)vfs;
    return real->xSleep(real, microseconds);
}

static int x_current_time(sqlite3_vfs *vfs, double *time) {
    (void)vfs;
    return real->xCurrentTime(real, time);
}

static int x_current_time_64(sqlite3_vfs *vfs, sqlite3_int64 *time) {
    (void)vfs;
    return real->xCurrentTimeInt64(real, time);
}

static int x_last_error(sqlite3_vfs *vfs, int size, char *text) {
    (void)vfs;
    return real->xGetLastError(real, size, text);
}

/* MARK: what tests call */

crash_disk *crash_disk_make(const char *directory) {
    char full[PATH_MAX];
    if (sqlite3_initialize() != SQLITE_OK || !realpath(directory, full)) return NULL;
    pthread_mutex_lock(&lock_of_all);
    if (!real) {
        real = sqlite3_vfs_find(NULL);
        ours = *real;
        ours.pNext = NULL;
        ours.zName = "crashdisk";
        ours.pAppData = NULL;
        ours.iVersion = 2;
        if (ours.szOsFile < (int)sizeof(handle)) ours.szOsFile = (int)sizeof(handle);
        ours.xOpen = x_open;
        ours.xDelete = x_delete;
        ours.xAccess = x_access;
        ours.xFullPathname = x_full_pathname;
        ours.xDlOpen = NULL;
        ours.xRandomness = x_randomness;
        ours.xSleep = x_sleep;
        ours.xCurrentTime = x_current_time;
        ours.xCurrentTimeInt64 = x_current_time_64;
        ours.xGetLastError = x_last_error;
    }
    crash_disk *disk = calloc(1, sizeof *disk);
    disk->directory = strdup(full);
    disk->length = strlen(full);
    disk->is_powered = 1;
    disk->next = disks;
    int is_first = disks == NULL;
    disks = disk;
    /* Connections of others that are opened meanwhile keep pointing to `ours`, which stays for ever. */
    if (is_first) sqlite3_vfs_register(&ours, 1);
    pthread_mutex_unlock(&lock_of_all);
    return disk;
}

void crash_disk_free(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    for (crash_disk **each = &disks; *each; each = &(*each)->next) {
        if (*each == disk) {
            *each = disk->next;
            break;
        }
    }
    int is_last = disks == NULL;
    disk->is_gone = 1;
    disk_drop_if_gone(disk);
    if (is_last) sqlite3_vfs_register(real, 1);
    pthread_mutex_unlock(&lock_of_all);
}

int64_t crash_disk_count(crash_disk *disk, int kinds) {
    pthread_mutex_lock(&lock_of_all);
    int64_t count = 0;
    for (int kind = CRASH_READ; kind <= CRASH_DELETE; kind *= 2) {
        if (kind & kinds) count += disk->counts[place_of(kind)];
    }
    pthread_mutex_unlock(&lock_of_all);
    return count;
}

void crash_disk_cut_at(crash_disk *disk, int64_t n) {
    pthread_mutex_lock(&lock_of_all);
    disk->cut_at = n;
    pthread_mutex_unlock(&lock_of_all);
}

void crash_disk_cut(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    cut(disk);
    pthread_mutex_unlock(&lock_of_all);
}

int crash_disk_is_powered(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    int is_powered = disk->is_powered;
    pthread_mutex_unlock(&lock_of_all);
    return is_powered;
}

void crash_disk_fail_at(crash_disk *disk, int kinds, int64_t n, int code, int for_ever) {
    pthread_mutex_lock(&lock_of_all);
    disk->fault_kinds = kinds;
    disk->fault_at = n;
    disk->fault_code = code;
    disk->fault_for_ever = for_ever;
    disk->failures = 0;
    pthread_mutex_unlock(&lock_of_all);
}

int64_t crash_disk_failures(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    int64_t failures = disk->failures;
    pthread_mutex_unlock(&lock_of_all);
    return failures;
}

void crash_disk_lie(crash_disk *disk, int lies) {
    pthread_mutex_lock(&lock_of_all);
    disk->lies = lies;
    pthread_mutex_unlock(&lock_of_all);
}

void crash_disk_watch(crash_disk *disk, void (*call)(void *context), void *context) {
    pthread_mutex_lock(&lock_of_all);
    disk->watcher = call;
    disk->watcher_context = context;
    pthread_mutex_unlock(&lock_of_all);
}

crash_state *crash_disk_capture(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    crash_state *state = capture(disk);
    pthread_mutex_unlock(&lock_of_all);
    return state;
}

void crash_disk_restore(crash_disk *disk, const crash_state *state) {
    pthread_mutex_lock(&lock_of_all);
    put_back(disk, state, 0, CRASH_KEEP, 0);
    pthread_mutex_unlock(&lock_of_all);
}

void crash_disk_restart(crash_disk *disk, const crash_state *state, uint64_t seed, int manner) {
    pthread_mutex_lock(&lock_of_all);
    put_back(disk, state, seed, manner, 1);
    pthread_mutex_unlock(&lock_of_all);
}

uint64_t crash_disk_print(crash_disk *disk) {
    pthread_mutex_lock(&lock_of_all);
    /* The order of files does not matter. */
    uint64_t sum = 0;
    for (file *each = disk->files; each; each = each->next) {
        struct stat information;
        char link[64], path[PATH_MAX];
        if (each->inode == 0 || fstat(each->descriptor, &information) != 0 || information.st_nlink == 0) continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", each->descriptor);
        ssize_t length = readlink(link, path, sizeof path);
        if (length < 3 || memcmp(path + length - 3, ".db", 3) != 0) continue;
        /* FNV-1a, eight bytes at a time. */
        uint64_t hash = 0xCBF29CE484222325u;
        for (ssize_t at = (ssize_t)disk->length; at < length; at++) hash = (hash ^ (uint8_t)path[at]) * 0x100000001B3u;
        for (int64_t at = 0; at + 8 <= each->visible.size; at += 8) {
            uint64_t word;
            memcpy(&word, each->visible.bytes + at, 8);
            hash = (hash ^ word) * 0x100000001B3u;
            hash ^= hash >> 29;
        }
        sum += hash;
    }
    pthread_mutex_unlock(&lock_of_all);
    return sum;
}

int crash_recover(const char *path) {
    sqlite3 *database = NULL;
    int code = sqlite3_open_v2(path, &database, SQLITE_OPEN_READWRITE, NULL);
    /* Reads the header only, in a transaction: that recovers whatever is to be recovered. */
    if (code == SQLITE_OK) code = sqlite3_exec(database, "PRAGMA user_version", NULL, NULL, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_wal_checkpoint_v2(database, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    }
    int closed = sqlite3_close(database);
    return code == SQLITE_OK ? closed : code;
}
