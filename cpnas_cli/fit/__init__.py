"""From a folder of photos to a packed model in the time that there is: one search at most, and one training.

plan       which width and how many epochs, from measured seconds: pure arithmetic
choices    what the photos decide: image size, mirroring; and what cannot work
widths     what a width takes on this machine: bytes, time for an image, seconds of a step
planning   all of them put together: the document of a new fit
folder     what is asked, what was chosen (once), and what came of it: `fit.json` (`cpnas.fit/1`)
run        all of it in order, resumable
"""
