# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own selftests about mount namespaces (Linux 7.3, tools/testing/selftests), and why
some are not re-expressed here.

A test is named as the kernel's runner names it: fixture.variant.test; where there is no fixture, by
the program. Each has a case that re-expresses what it is for, marked ``upstream(name)``, or a
reason under :data:`OUT_OF_SCOPE`.
"""

from __future__ import annotations

from collections.abc import Iterable


def _of(group: str, tests: str) -> Iterable[str]:
    return (f"{group}.{test}" for test in tests.split())


_VARIANTS = (
    "basic_root",
    "recursive_root",
    "subdir_tmp",
    "subdir_proc",
    "recursive_tmp",
    "recursive_run",
    "invalid_recursive_alone",
)
#: Every variant runs every test.
_OF_A_VARIANT = "create_namespace setns_into_namespace verify_mount_properties"

#: open_tree_ns_test.c and open_tree_ns_covered_test.c: the flag itself.
FLAG = frozenset(
    {
        *(name for variant in _VARIANTS for name in _of(f"open_tree_ns.{variant}", _OF_A_VARIANT)),
        *_of("open_tree_ns_caps", "requires_cap_sys_admin"),
        *_of(
            "open_tree_ns_userns",
            "create_in_userns setns_in_userns recursive_in_userns umount_fails_einval"
            " umount_succeeds",
        ),
        *_of("open_tree_ns_unbindable", "fails_on_unbindable recursive_skips_on_unbindable"),
        *_of("open_tree_ns_covered.private_cover", "foreign_user_namespace"),
        *_of("open_tree_ns_covered.unbindable_cover", "foreign_user_namespace"),
    }
)

#: What the programs of other folders test, as far as it can meet a namespace made by the flag:
#: filesystems/ (fsmount_ns, empty_mntns, move_mount, mntns_unbindable, mount_cycle,
#: umount_propagation, fscontext_ns, failfs, statmount, nsfs, rw_hint_test), move_mount_set_group/
#: and namespaces/.
OTHERS = frozenset(
    {
        *(
            name
            for variant in ("basic_tmpfs", "cloexec_only", "namespace_only")
            for name in _of(f"fsmount_ns.{variant}", f"{_OF_A_VARIANT} verify_tmpfs_type")
        ),
        *_of("fsmount_ns_caps", "requires_cap_sys_admin"),
        *_of(
            "fsmount_ns_userns",
            "create_in_userns setns_in_userns umount_fails_einval umount_succeeds",
        ),
        *_of("fsmount_ns_mount_attrs", "readonly noexec nosuid noatime combined"),
        *_of(
            "empty_mntns",
            "basic with_clone_newuser with_other_ns_flags eperm_without_caps many_source_mounts"
            " cwd_reset mount_properties repeated_unshare root_is_own_parent"
            " listmount_single_entry overmount_tmpfs",
        ),
        *_of("empty_mntns_test", "invalid_flags clone_newns_full_copy other_ns_unaffected"),
        *_of(
            "clone3_empty_mntns",
            "basic implies_newns with_explicit_newns with_newuser with_other_ns_flags with_newpid"
            " with_clone_fs_fails with_pidfd eperm_without_caps parent_unchanged"
            " many_parent_mounts mount_properties listmount_single_entry child_overmount_tmpfs"
            " repeated setns_into_child_mntns",
        ),
        *_of("clone3_empty_mntns_test", "unknown_flags_rejected clone3_newns_full_copy"),
        *_of("overmount_chroot_test", "overmount_chroot"),
        *_of(
            "move_mount",
            "beneath_rootfs_success beneath_rootfs_old_root_stacked beneath_rootfs_in_chroot_fail"
            " beneath_rootfs_in_chroot_success beneath_rootfs_locked_transfer"
            " beneath_rootfs_locked_containment beneath_non_rootfs_locked_transfer"
            " beneath_non_rootfs_locked_containment",
        ),
        *_of(
            "mntns_unbindable",
            "refuses_bind refuses_bind_after_clone refuses_rbind_after_clone"
            " refuses_open_tree_after_clone mountinfo_after_clone refuses_bind_after_two_clones",
        ),
        *_of("locked_handle", "lazy_umount dissolve allowed_use"),
        *_of(
            "loop_cycle",
            "detached_loop_mount_released crossed_images_released"
            " fuse_backing_file_on_dead_mount_released",
        ),
        *_of(
            "mount_cover",
            "not_watchable not_lockable not_leasable not_mountable read_only island"
            " held_child_detached cover_goes_with_mountpoint file_stand_in shared_mountpoint",
        ),
        *_of("nsfs_rbind_loop", "own_ns_file_below_foreign_source"),
        *_of("overmount_ns_file", "existing_mount_stays_on_top"),
        *_of("overmount_reparent", "dead_overmount_holder_not_followed"),
        *_of(
            "unmounted_tree",
            "detached_nsfs_bind_not_walked detached_pidfs_bind_not_walked vacant_child_not_copied"
            " copy_of_detached_bind_is_ordinary detached_tree_setattr_refused",
        ),
        *_of(
            "locked_mount",
            "automount_locked_in_the_triggering_namespace expiry_leaves_a_locked_mount_alone"
            " umount_of_a_bind_leaves_a_locked_automount_alone"
            " propagated_copy_keeps_the_cover_locked mount_namespace_file_cant_take_the_lock",
        ),
        *_of("shrink_submounts", "busy_mount_moved_into_reach parent_goes_with_child"),
        *_of("umount_propagation", "busy_copy_pulled_out"),
        *_of("fscontext_ns.overlay", "create_from_descendant_userns"),
        *_of("fscontext_ns_test", "create_from_same_userns"),
        *_of("failfs_test", "fchroot_sentinel_setns_escape"),
        *_of("internal_sb_reconfigure", "nullfs_root"),
        *_of("nullfs_atime_test", "empty_mntns_root_atime"),
        *_of("root_readdir_test", "readdir_blocks_nobody"),
        *_of("rw_hint_test", "namespace_file empty_mntns_root"),
        *_of("move_mount_set_group", "complex_sharing_copying unbindable_target"),
        *_of(
            "statmount_test",
            "listmount_empty_root listmount_tree statmount_zero_mask statmount_mnt_basic"
            " statmount_sb_basic statmount_mnt_point statmount_mnt_root statmount_fs_type"
            " statmount_mnt_opts statmount_string statmount_by_fd statmount_by_fd_unmounted",
        ),
        *_of("statmount_test_ns", "statmount_mnt_ns_id listmount_ns"),
        *_of("listmount_test", "listmount_forward listmount_backward"),
        *_of(
            "iterate_mount_namespaces",
            "iterate_all_forward iterate_all_backwards iterate_forward iterate_backward"
            " nfs_valid_ioctl",
        ),
        *_of("owner", "owner"),
        *_of(
            "file_handle_test",
            "nsfs_mnt_handle nsfs_user_mnt_namespace_isolation nsfs_open_flags",
        ),
        *_of(
            "listns_test",
            "listns_basic_unified listns_filter_by_type listns_pagination listns_current_user"
            " listns_only_active listns_specific_userns listns_multiple_types"
            " listns_hierarchical_visibility listns_error_cases",
        ),
        *_of(
            "listns_efault_test",
            "listns_complete_fault listns_null_buffer listns_mnt_ns_cleanup_on_fault",
        ),
        *_of("listns_pagination_bug", "pagination_with_type_filter"),
        *_of(
            "listns_permissions_test",
            "listns_unprivileged_current_only listns_cap_sys_admin_in_userns"
            " listns_cannot_see_sibling_userns_namespaces listns_current_user_permissions"
            " listns_parent_userns_cap_sys_admin listns_cap_sys_admin_inside_userns"
            " listns_drop_cap_sys_admin",
        ),
        *_of(
            "ns_active_ref_test",
            "ns_inactive_after_exit ns_active_with_multiple_processes userns_active_ref_lifecycle"
            " ns_fd_keeps_active ns_parent_always_reachable ns_bind_mount_keeps_in_tree"
            " ns_multilevel_hierarchy ns_deep_hierarchy_propagation ns_userns_child_propagation"
            " thread_ns_inactive_after_exit thread_ns_fd_keeps_active"
            " thread_subprocess_ns_inactive_after_all_exit",
        ),
        *_of("nsid_test", "nsid_mntns_basic"),
        *_of("nsid", "mntns_separate"),
        *_of("regression_pidfd_setns_test", "simple_pidfd_setns simple_pidfd_setns_clone"),
        *_of("stress_test", "rapid_namespace_creation_destruction"),
    }
)

UPSTREAM = FLAG | OTHERS

#: Reason -> the tests that are not re-expressed for it.
OUT_OF_SCOPE: dict[str, frozenset[str]] = {
    "another holder of a file, of a device or a file system that no guest has; the kind is held by "
    "the case for FUSE": frozenset(
        {
            *_of(
                "loop_cycle",
                "dissolved_tree_loop_mount_released autofs_pipe_on_dead_mount_released"
                " zram_writeback_node_on_dead_mount_released ecryptfs_lower_on_dead_mount_released"
                " binfmt_misc_interpreter_on_dead_mount_released"
                " zloop_zone_files_on_dead_mount_released"
                " mass_storage_lun_on_dead_mount_released md_bitmap_file_on_dead_mount_released",
            ),
            *_of("fscontext_ns.binfmt_misc", "create_from_descendant_userns"),
        }
    ),
    "the reader of an empty immutable directory is held up by the case for the base, which has the "
    "same code": frozenset({*_of("mount_cover", "readdir_blocks_nobody")}),
    "fchroot(2) and failfs, whatever namespace the task is in": frozenset(
        _of(
            "failfs_test",
            "fchdir_sentinel fchdir_rejects_other_sentinels fchroot_flags fchroot_bad_fd"
            " fchroot_notdir fchroot_realfd_requires_cap fchroot_realfd fchroot_sentinel"
            " fchroot_sentinel_absolute_symlink fchroot_sentinel_unprivileged"
            " fchroot_sentinel_rejected_when_chrooted fchroot_sentinel_shared_fs_struct"
            " fchroot_sentinel_no_overmount fchroot_sentinel_exec"
            " fchroot_sentinel_exec_interpreter fchroot_sentinel_inherited",
        )
    ),
    "no mount namespace in it: another file, or another kind of namespace": frozenset(
        {
            *_of("rw_hint_test", "immutable_file"),
            *_of("pidns", "pidns"),
            *_of("init_ino_test", "init_namespace_inodes"),
            *_of(
                "file_handle_test",
                "nsfs_net_handle nsfs_uts_handle nsfs_ipc_handle nsfs_pid_handle nsfs_user_handle"
                " nsfs_cgroup_handle nsfs_time_handle nsfs_user_net_namespace_isolation"
                " nsfs_user_uts_namespace_isolation nsfs_user_ipc_namespace_isolation"
                " nsfs_user_cgroup_namespace_isolation nsfs_user_pid_namespace_isolation"
                " nsfs_user_time_namespace_isolation",
            ),
            *_of(
                "listns_efault_test",
                "listns_partial_fault_with_ns_cleanup listns_late_fault_with_ns_cleanup",
            ),
            *_of(
                "ns_active_ref_test",
                "init_ns_always_active pidns_active_ref_lifecycle"
                " ns_multiple_children_same_parent ns_different_types_same_owner"
                " ns_parent_multiple_children_refcount ns_mixed_types_same_owner",
            ),
            *(
                name
                for kind in ("cgroup", "ipc", "uts", "user", "time", "pid", "net")
                for name in (f"nsid_test.nsid_{kind}ns_basic", f"nsid.{kind}ns_separate")
            ),
            *_of(
                "cred_change_test",
                "setuid_preserves_active_refs setgid_preserves_active_refs"
                " setresuid_preserves_active_refs cred_change_nested_userns"
                " rapid_cred_changes_no_leak setfsuid_preserves_active_refs",
            ),
            *_of(
                "siocgskns_test",
                "siocgskns_basic siocgskns_keeps_netns_active siocgskns_socket_types"
                " siocgskns_across_setns siocgskns_non_socket siocgskns_multiple_sockets"
                " siocgskns_netns_lifecycle siocgskns_ipv6 siocgskns_listns_visibility"
                " siocgskns_file_handle siocgskns_listns_and_file_handle"
                " siocgskns_multilevel_resurrection",
            ),
            *_of(
                "stress_test",
                "many_concurrent_namespaces rapid_mixed_namespace_creation nested_namespace_stress"
                " listns_pagination_stress concurrent_namespace_operations namespace_churn",
            ),
        }
    ),
}
