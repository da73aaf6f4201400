#define _GNU_SOURCE
#include "CSQLite.h"
#include "Storage.h"

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

#define SHM_LOCKS 8
#define MARK "crashdisk "

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
    pendings unsynced;
    shared_index *index;
    /* Locks of SQLite's rollback mode. */
    int shared;
    struct handle *reserved, *pending, *exclusive;
    int handles;
    int is_orphan;
} file;

struct crash_disk {
    struct crash_disk *next;
    /* Guards all that follows, and what its handles point to. */
    pthread_mutex_t lock;
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

/* Guards the list of disks. Who needs a disk's lock too takes it after this one. */
static pthread_mutex_t lock_of_all = PTHREAD_MUTEX_INITIALIZER;
static crash_disk *disks;
static sqlite3_vfs *real;
static sqlite3_vfs ours;
static int64_t last_number;

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
    pendings_clear(&file->unsynced);
    buffer_free(&file->visible);
    buffer_free(&file->durable);
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
    made->number = __atomic_add_fetch(&last_number, 1, __ATOMIC_RELAXED);
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
                uint8_t *copied = malloc((size_t)original->visible.size);
                buffer_read(&original->visible, copied, 0, original->visible.size);
                buffer_write(&made->visible, copied, 0, original->visible.size);
                pendings_add(&made->unsynced, 0, copied, 0, original->visible.size);
                free(copied);
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
        saved *kept = state_add(state, path + disk->length);
        kept->inode = information.st_ino;
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
            buffer_copy(&kept->visible, &known->visible);
            pendings_copy(&kept->unsynced, &known->unsynced);
        } else if (information.st_size > 0) {
            int descriptor = open(path, O_RDONLY | O_CLOEXEC);
            if (descriptor < 0) continue;
            uint8_t *bytes = malloc((size_t)information.st_size);
            ssize_t count = pread(descriptor, bytes, (size_t)information.st_size, 0);
            if (count > 0) buffer_write(&kept->durable, bytes, 0, count);
            free(bytes);
            close(descriptor);
        }
    }
    closedir(listing);
}

static crash_state *capture(crash_disk *disk) {
    if (disk->at_cut) return crash_state_copy(disk->at_cut);
    crash_state *state = calloc(1, sizeof *state);
    capture_directory(disk, disk->directory, state);
    return state;
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
            if (!state_at(state, path + disk->length)) rmdir(path);
        } else {
            const saved *kept = state_at(state, path + disk->length);
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
    text[buffer_read(buffer, text, 0, buffer->size)] = 0;
    snprintf(former, sizeof former, "\"inode\":%llu,", (unsigned long long)old);
    char *found = strstr(text, former);
    if (!found) return 0;
    int length = snprintf(mended, sizeof mended, "%.*s\"inode\":%llu,%s", (int)(found - text), text,
                          (unsigned long long)new, found + strlen(former));
    buffer_resize(buffer, 0);
    buffer_write(buffer, mended, 0, length);
    return 1;
}

static void put_back(crash_disk *disk, const crash_state *state) {
    disk->start++;
    disk->is_powered = 1;
    disk->cut_at = 0;
    disk->fault_at = 0;
    crash_state_free(disk->at_cut);
    disk->at_cut = NULL;
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
    /* Directories come before what lies in them, as they do in the list. */
    for (const saved *each = state->files; each; each = each->next) {
        if (!each->is_directory) continue;
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s%s", disk->directory, each->path);
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
        /* Not made from the writes again: one that a failed sync has lost may have been overwritten since. */
        buffer_copy(&made->visible, each->unsynced.count > 0 ? &each->visible : &each->durable);
        pendings_copy(&made->unsynced, &each->unsynced);
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
            uint8_t *flat = malloc((size_t)bytes.size + 1);
            buffer_read(&bytes, flat, 0, bytes.size);
            if (bytes.size > 0 && pwrite(descriptor, flat, (size_t)bytes.size, 0) != bytes.size) perror(path);
            free(flat);
            close(descriptor);
        }
        buffer_free(&bytes);
    }
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
    pthread_mutex_unlock(&disk->lock);
    watcher(context);
    pthread_mutex_lock(&disk->lock);
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

/* Lets go of the lock, and of the disk if nobody needs it any more. */
static void disk_unlock(crash_disk *disk) {
    int is_needed = !disk->is_gone || disk->handles > 0;
    pthread_mutex_unlock(&disk->lock);
    if (is_needed) return;
    pthread_mutex_destroy(&disk->lock);
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
    crash_disk *disk = closed->disk;
    pthread_mutex_lock(&disk->lock);
    let_go_of_locks(closed);
    leave_index(closed);
    if (closed->deletes_on_close && !is_dead(closed)) {
        unlink(closed->path);
        closed->file->is_orphan = 1;
    }
    closed->file->handles--;
    disk->handles--;
    file_drop_if_gone(disk, closed->file);
    free(closed->path);
    closed->base.pMethods = NULL;
    disk_unlock(disk);
    return SQLITE_OK;
}

static int x_read(sqlite3_file *base, void *bytes, int count, sqlite3_int64 offset) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    int code = is_dead(handle) ? SQLITE_IOERR_READ : begin(handle->disk, CRASH_READ);
    if (code == 0) {
        if (buffer_read(&handle->file->visible, bytes, offset, count) < count) code = SQLITE_IOERR_SHORT_READ;
    }
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_write(sqlite3_file *base, const void *bytes, int count, sqlite3_int64 offset) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    int code = SQLITE_IOERR_WRITE;
    if (!is_dead(handle)) {
        file *file = handle->file;
        code = begin(handle->disk, CRASH_WRITE);
        int written = code <= 0 ? count : count / 2;
        if (written > 0) {
            pendings_add(&file->unsynced, 0, bytes, offset, written);
            buffer_write(&file->visible, bytes, offset, written);
            if (file->visible.size <= offset + written) mark(file);
        }
        if (code < 0) {
            cut(handle->disk);
            code = SQLITE_IOERR_WRITE;
        }
        tell(handle->disk);
    }
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_truncate(sqlite3_file *base, sqlite3_int64 size) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    int code = SQLITE_IOERR_TRUNCATE;
    if (!is_dead(handle)) {
        file *file = handle->file;
        code = begin(handle->disk, CRASH_TRUNCATE);
        if (code <= 0) {
            pendings_add(&file->unsynced, 1, NULL, 0, size);
            buffer_resize(&file->visible, size);
            mark(file);
        }
        if (code < 0) {
            cut(handle->disk);
            code = SQLITE_IOERR_TRUNCATE;
        }
        tell(handle->disk);
    }
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_sync(sqlite3_file *base, int flags) {
    (void)flags;
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
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
            for (int64_t number = 0; number < file->unsynced.count; number++) {
                file->unsynced.all[number].is_lost = 1;
            }
        } else if (!handle->disk->lies) {
            pendings_sync(&file->unsynced, &file->durable);
        }
    }
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_file_size(sqlite3_file *base, sqlite3_int64 *size) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    int code = is_dead(handle) ? SQLITE_IOERR_FSTAT : SQLITE_OK;
    *size = handle->file->visible.size;
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_lock(sqlite3_file *base, int wanted) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
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
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_unlock(sqlite3_file *base, int wanted) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    file *file = handle->file;
    if (handle->start == handle->disk->start && handle->lock > wanted) {
        if (file->reserved == handle) file->reserved = NULL;
        if (file->pending == handle) file->pending = NULL;
        if (file->exclusive == handle) file->exclusive = NULL;
        if (wanted == SQLITE_LOCK_NONE && handle->lock >= SQLITE_LOCK_SHARED) file->shared--;
        handle->lock = wanted;
    }
    pthread_mutex_unlock(&handle->disk->lock);
    return SQLITE_OK;
}

static int x_check_reserved_lock(sqlite3_file *base, int *result) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    *result = handle->file->reserved || handle->file->pending || handle->file->exclusive;
    int code = is_dead(handle) ? SQLITE_IOERR_CHECKRESERVEDLOCK : SQLITE_OK;
    pthread_mutex_unlock(&handle->disk->lock);
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
/* MARK: what SQLite calls, on the index of a write-ahead log */

static int x_shm_map(sqlite3_file *base, int region, int size, int extends, void volatile **bytes) {
    handle *handle = (struct handle *)base;
    *bytes = NULL;
    pthread_mutex_lock(&handle->disk->lock);
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
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static int x_shm_lock(sqlite3_file *base, int offset, int count, int flags) {
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
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
    pthread_mutex_unlock(&handle->disk->lock);
    return code;
}

static void x_shm_barrier(sqlite3_file *base) {
    (void)base;
    __sync_synchronize();
}

static int x_shm_unmap(sqlite3_file *base, int deletes) {
    (void)deletes;
    handle *handle = (struct handle *)base;
    pthread_mutex_lock(&handle->disk->lock);
    leave_index(handle);
    pthread_mutex_unlock(&handle->disk->lock);
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
    .xSectorSize = disk_sector_size,
    .xDeviceCharacteristics = disk_characteristics,
    .xShmMap = x_shm_map,
    .xShmLock = x_shm_lock,
    .xShmBarrier = x_shm_barrier,
    .xShmUnmap = x_shm_unmap,
};

/* MARK: what SQLite calls, on names */

/* The disk that a path lies on, locked; NULL when that is the real one. */
static crash_disk *disk_of(const char *path) {
    if (!path) return NULL;
    pthread_mutex_lock(&lock_of_all);
    crash_disk *found = disks;
    while (found && !(strncmp(path, found->directory, found->length) == 0 && path[found->length] == '/')) {
        found = found->next;
    }
    if (found) pthread_mutex_lock(&found->lock);
    pthread_mutex_unlock(&lock_of_all);
    return found;
}

static int x_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *flags_out) {
    (void)vfs;
    crash_disk *disk = disk_of(path);
    if (!disk) return real->xOpen(real, path, base, flags, flags_out);
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
    pthread_mutex_unlock(&disk->lock);
    return code;
}

static int x_delete(sqlite3_vfs *vfs, const char *path, int syncs) {
    (void)vfs;
    crash_disk *disk = disk_of(path);
    if (!disk) return real->xDelete(real, path, syncs);
    int code = SQLITE_IOERR_DELETE;
    if (disk->is_powered) {
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
    pthread_mutex_unlock(&disk->lock);
    return code;
}

static int x_access(sqlite3_vfs *vfs, const char *path, int flags, int *result) {
    (void)vfs;
    crash_disk *disk = disk_of(path);
    if (!disk) return real->xAccess(real, path, flags, result);
    int code = SQLITE_OK;
    if (!disk->is_powered) {
        code = SQLITE_IOERR_ACCESS;
    } else {
        file *file = file_at(disk, path, 0);
        *result = file && (flags != SQLITE_ACCESS_EXISTS || file->visible.size > 0);
    }
    pthread_mutex_unlock(&disk->lock);
    return code;
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

/* Milliseconds since 1970 that this thread's connections see; 0: the true time. */
static _Thread_local int64_t time_shown;

void crash_time_show(int64_t milliseconds) { time_shown = milliseconds; }

/* SQLite counts from noon of 24 November 4714 before Christ. */
static const sqlite3_int64 julian_of_1970 = 210866760000000;

static int x_current_time(sqlite3_vfs *vfs, double *time) {
    (void)vfs;
    if (!time_shown) return real->xCurrentTime(real, time);
    *time = (double)(time_shown + julian_of_1970) / 86400000.0;
    return SQLITE_OK;
}

static int x_current_time_64(sqlite3_vfs *vfs, sqlite3_int64 *time) {
    (void)vfs;
    if (!time_shown) return real->xCurrentTimeInt64(real, time);
    *time = time_shown + julian_of_1970;
    return SQLITE_OK;
}

static int x_last_error(sqlite3_vfs *vfs, int size, char *text) {
    (void)vfs;
    return real->xGetLastError(real, size, text);
}

/* MARK: what tests call */

crash_disk *crash_disk_make(const char *directory) {
    char full[PATH_MAX];
    /* As a replica does, which comes too late here: disks are made first. */
    csqlite_leave_out_memory_count();
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
    pthread_mutex_init(&disk->lock, NULL);
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
    if (disks == NULL) sqlite3_vfs_register(real, 1);
    pthread_mutex_lock(&disk->lock);
    pthread_mutex_unlock(&lock_of_all);
    disk->is_gone = 1;
    disk_unlock(disk);
}

int64_t crash_disk_count(crash_disk *disk, int kinds) {
    pthread_mutex_lock(&disk->lock);
    int64_t count = 0;
    for (int kind = CRASH_READ; kind <= CRASH_DELETE; kind *= 2) {
        if (kind & kinds) count += disk->counts[place_of(kind)];
    }
    pthread_mutex_unlock(&disk->lock);
    return count;
}

void crash_disk_cut_at(crash_disk *disk, int64_t n) {
    pthread_mutex_lock(&disk->lock);
    disk->cut_at = n;
    pthread_mutex_unlock(&disk->lock);
}

void crash_disk_cut(crash_disk *disk) {
    pthread_mutex_lock(&disk->lock);
    cut(disk);
    pthread_mutex_unlock(&disk->lock);
}

int crash_disk_is_powered(crash_disk *disk) {
    pthread_mutex_lock(&disk->lock);
    int is_powered = disk->is_powered;
    pthread_mutex_unlock(&disk->lock);
    return is_powered;
}

void crash_disk_fail_at(crash_disk *disk, int kinds, int64_t n, int code, int for_ever) {
    pthread_mutex_lock(&disk->lock);
    disk->fault_kinds = kinds;
    disk->fault_at = n;
    disk->fault_code = code;
    disk->fault_for_ever = for_ever;
    disk->failures = 0;
    pthread_mutex_unlock(&disk->lock);
}

int64_t crash_disk_failures(crash_disk *disk) {
    pthread_mutex_lock(&disk->lock);
    int64_t failures = disk->failures;
    pthread_mutex_unlock(&disk->lock);
    return failures;
}

void crash_disk_lie(crash_disk *disk, int lies) {
    pthread_mutex_lock(&disk->lock);
    disk->lies = lies;
    pthread_mutex_unlock(&disk->lock);
}

void crash_disk_watch(crash_disk *disk, void (*call)(void *context), void *context) {
    pthread_mutex_lock(&disk->lock);
    disk->watcher = call;
    disk->watcher_context = context;
    pthread_mutex_unlock(&disk->lock);
}

crash_state *crash_disk_capture(crash_disk *disk) {
    pthread_mutex_lock(&disk->lock);
    crash_state *state = capture(disk);
    pthread_mutex_unlock(&disk->lock);
    return state;
}

void crash_disk_restore(crash_disk *disk, const crash_state *state) {
    pthread_mutex_lock(&disk->lock);
    put_back(disk, state);
    pthread_mutex_unlock(&disk->lock);
}
