"""Columns of what a thread gets to know, of the numbers that a team shares, and of the table of shares."""

# Addresses of the program's arrays come first.
STEM, HEAD, LOOKUP = 7, 8, 9
# Working memory. The thread's number in the team; the team's numbers (0: the thread is alone); the leader's columns,
# where those of the job stand. A C function that lets others run, or 0. How often a helper looks for work before it
# gives up.
VALUES, WORDS, DOUBLES, NUMBER, TEAM, LEADER, LET_OTHERS_RUN, PATIENCE = range(10, 18)
# Of the job: images, and bytes from one to the next; the same of scores; how many; instructions from the first to
# before the last; whether an image is shared out by rows; if so, the table of shares and their number.
(IMAGES, IMAGE_BYTES, SCORES, SCORE_BYTES, NUM_IMAGES, FIRST, LAST, BY_ROWS, SHARES, NUM_SHARES) = range(18, 28)
NUM_COLUMNS = 28
# What a team shares, each in cache lines of its own; then, for each share, the last job in which somebody took it.
JOB, NEXT, DONE, TAKEN = 0, 16, 32, 48
# Of a share: instructions from the first to before the last, or -1 and 0 for the reading of the image; rows from the
# one to before the other; how many shares there are of these instructions.
SHARE_FIRST, SHARE_LAST, SHARE_BEGIN, SHARE_END, SHARE_COUNT = range(5)
SHARE_COLUMNS = 5
